"""The words by which ``core.policy`` knows what a question is about: patterns over plain words."""

from __future__ import annotations

import re
import unicodedata


def plain_words(text: str) -> str:
    """Lower-case words without accents, short forms written out, sentences parted by ".", innocent phrases by "#"."""
    text = unicodedata.normalize("NFKD", text).replace("\u2019", "'")
    text = "".join(c for c in text if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")
    text = re.sub(r"(?<=\w )[A-H]\b(?!')", "face", text)  # "Is B …": the letters of the faces
    text = text.casefold()
    text = re.sub(r"\b(he|she|it|who|what|where|that|this|there|name)'s\b", r"\1 is", text)
    text = re.sub(r"\bwho(?:s| r)\b", "who is", text.replace("'re ", " are ").replace("'ll ", " will "))
    text = re.sub(r"[.!?:;](?!\w)", " . ", re.sub(r"[^\w'.!?:;]+|_+", " ", text))
    text = re.sub(r"[!?:;]", " ", text)
    return " ".join(_INNOCENT.sub(" # ", " ".join(text.split())).split()).strip(" .")


def _rule(*alternatives: str) -> re.Pattern[str]:
    """One pattern of whole words from several; blanks stand for any white space."""
    joined = "|".join(f"(?:{alternative})" for alternative in alternatives)
    return re.compile(rf"\b(?:{joined})(?!\w)")


#: The end of a sentence or of a choice.
_END = r"(?= \.| option |$)"

COLOUR = r"(?:black|white|brown|colou?red)"
_SHADE = r"(?:paler?|dark|fair|tann?ed|swarthy|olive)"
COLOURED_THING = (
    r"(?:hairs?|haired|beards?|mou?stache|goatee|stubble|(?:eye)?brows?|eyelash\w*|eyes?|eyed|pupils?|\w*glasses|lens\w*|"
    r"frame[sd]?|rims?|rimmed|hats?|caps?|beanie|helmets?|hood|hoodie|head(?!s?\b)\w+|hijab|scarf|turban|veil|tie|vest|"
    r"(?:t ?)?shirts?|blouse|jacket|coat|suits?|dress|sweater|jumper|pullover|top|collar|uniform|cloth\w+|outfit|bra|"
    r"gloves?|shoes?|trousers|earrings?|necklace|jewell?ery|masks?|paint|make ?up|lip\w*|teeth|nails?|background|wall|"
    r"borders?|bars?|car|sky|spots?|dots?|marks?|balance|noise|levels?|light|ink|photo|photograph|picture|image|flag|"
    r"stripes?|strap|pixels?|areas?|shadows?|tattoos?|text|letters|flowers?)"
)
_MATERIAL = (
    r"(?:leather|cotton|woollen|woolen|silk|denim|metal|plastic|rimmed|framed|round|square|thick|thin|baseball|cowboy|"
    r"knitted|knit|surgical|face|polo|bow|long|short|curly|straight|wavy|dark|light|striped|small|big|large|t)"
)

#: Taken out before any rule looks: words that mean something else in company.
_INNOCENT = re.compile(
    rf"""\b(?:
      {COLOUR}(?:\ (?:or|and)\ \w+)?(?:\ {_MATERIAL}){{0,2}}\ {COLOURED_THING} | {COLOUR}\ and\ {COLOUR} |
      (?:in|wear\w*|wore|dressed\ in|all)\ {COLOUR}(?!\ (?:man|woman|person|boy|girl|people|guy|male|female|face|or)) |
      (?:un)?even\ skin\ tone | skin\ tone\ (?:is\ |look\ |looks\ )?(?:un)?even | brand\ names? | tribal\ tattoos? |
      rac(?:e|ing)\ (?:cars?|track|bike|number|bib|suit|helmet|driver|horse|flag|day) | name\ ?(?:tag|badge|plate)s? |
      (?:horse|bike|boat|car|foot|motor|road)\ races? | (?:at|during|ran|running|won)\ (?:a|the|this)\ race |
      origin\ of\ the\ (?:light|shadow) | (?:light|shadows?|glare|reflections?|sun)(?:\ \w+){{0,6}}\ from |
      \w+\ (?:text|letter\w*|characters|writing|script|alphabet|flag) | identif\w+\ (?:marks?|features?) |
      straight\ (?:hair|face|line|nose|teeth|ahead|at|into|on|in|to|back|down|fringe|bangs) |
      afro\ (?:hair\w*|style|curls|wig|braids) | an\ afro(?!\ (?:american|carib\w+|latin\w*|person|man|woman)) |
      lying\ (?:down|on|back|flat|in\ (?:a|the|bed|grass|snow|sand|water)) |
      (?:which|what)\ (?:country|continent|region|place|city|town)\ (?:was|is|were)\ (?:this|it|the)
      \ (?:(?:photo\w*|picture|image)\ )?(?:taken|shot|made|recorded)
    )\b""",
    re.VERBOSE,
)

_SOMEBODY = (
    r"(?:persons?|people|man|men|woman|women|boys?|girls?|kids?|child|children|baby|guys?|lad(?:y|ies)|gentlem[ae]n|"
    r"individuals?|subjects?|human|someone|somebody|one|he|she|they|you|him|them|males?|females?|adults?|teenagers?|"
    r"teens?|couple|family|parents?|dudes?|blokes?|chaps?|fell(?:a|ow)s?|folks?)(?!')"
)
_PERSON = rf"(?:{_SOMEBODY}|faces?(?!'))"
_ANYONE = rf"(?:{_PERSON}|two|both|these|those|which)"
_BETWEEN = (
    r"(?: (?:is|are|was|were|be|being|been|looks?|looking|appear\w*|seems?|to|as|like|an?|of|or|either|half|partly|"
    r"part|more|most|mostly|rather|really|actually|probably|likely|maybe|perhaps|possibly|naturally|originally|very|"
    r"so|ethnically|quite|not|that|pass|for|considered|classified|described|categori[sz]ed|identified|young|older?|here))*"
)


def _of_person(kind: str, person: str = _PERSON) -> str:
    """``kind`` said of a person: "is the man really KIND", "a KIND young woman", "how KIND is she"."""
    adjective = r"(?: (?:or|and|young|old|older|elderly|middle|aged|adult|looking|single|\w+an|\w+ish|male|female))*"
    asked = rf"how {kind} (?:is|are|was|does|do) (?:\w+ ){{0,2}}{person}"
    return rf"{person}{_BETWEEN} {kind}|{kind}{adjective} {person}|{asked}"


NATION = _rule(
    r"(?:chin|japan|vietnam|leban|congol|portugu|taiwan|senegal|sudan)ese|(?:span|engl|scott|ir|turk|pol|swed|dan|"
    r"finn|brit|kurd)ish|(?:indones|ind|pers|iran|syr|palestin|egypt|alger|tunis|niger|ethiop|ghana|brazil|colomb|"
    r"peruv|ital|russ|ukrain|hungar|roman|bulgar|alban|belg|austr|norweg|canad|austral|jordan|georg|armen|cambod|kore|"
    r"morocc|keny|jamaic|hait|cub|mexic|americ|tibet|germ|afgh|venezuel|chile)i?ans?|(?:pakistan|bangladesh|iraq|"
    r"israel|somal|saud)is?|thai|filipin[oa]s?|nepal\w+|malay\w*|bengali|sri lankan|mongol\w*|turks?|kurds?|"
    r"argentin\w+|europeans?|brit|welsh|french|spaniard|greeks?|pole|czech|serb\w*|croat\w*|dutch|swiss|swede|dane|"
    r"finn|icelandic|western\w*|eastern",
)

ETHNICITY = _rule(
    # the thing by its names
    r"eth?n\w*|races?|\w*racial\w*|ancest\w+|descen(?:t|ded|dants?)|heritage|lineage|bloodline|genealog\w+|"
    r"gene(?:s|tic\w*)|dna|23andme|nationalit\w*|citizen\w*|origins?|originat\w+|birth ?place|place of birth|"
    r"(?:home|mother|father)(?:land|town| country)|(?:im)?migra\w+|refugees?|foreign\w*|trib(?:e|es|al)|caste|clan|"
    r"minorit\w+|indigenous|aborigin\w+|natives?|(?:people|persons?|wom[ae]n|m[ae]n) of colou?r|mother tongue|"
    r"(?:language|accent)\b.{0,25}\b(?:speaks?|has|have)|(?:his|her|their|person's) accent|(?:which|what) passport",
    # groups that are never said of anything else here
    r"asians?|asiat\w*|eurasians?|afri[ck]a\w*|afro\w*|caucas\w+|latin(?:[oax]s?| american)|hispanics?|"
    r"arab(?!esque)\w*|middle east(?:ern\w*)?|(?:an?|the) negro\w*|mongoloid|oriental|mestiz\w+|mulatt\w+|romani|"
    r"maghreb\w*|gyps(?:y|ies)|gitan[eoa]s?|zigeuner\w*|slav(?:ic)?|nordic|scandinavian|mediterranean|anglo saxon|"
    r"semitic|\w+nesian|pacific islander|aryan|mixed blood|bipoc",
    _of_person(rf"(?:{COLOUR}|negro|mixed|non white)"),
    _of_person(NATION.pattern, _ANYONE),
    rf"(?:{NATION.pattern})(?: looking|ness)|^{COLOUR}(?: or {COLOUR})*$",
    # origin by paraphrase
    rf"where\b.{{0,30}}\b{_PERSON}.{{0,40}}\b(?:from|born|grew|grow|hail)|{_PERSON}(?: (?:com(?:es?|ing)|"
    rf"hails?))?{_BETWEEN} from(?! (?:the |a |an )?(?:left|right|front|side|behind|above|below|back|camera|top|bottom|"
    r"head|far|near|close))|(?:country|region|continent|nation|city|town|village|world|cultur\w+|communit\w+|groups?|"
    r"population)\b.{0,40}\b(?:from|comes?|belongs?|born|represents?|hails?)|(?:which|what) (?:countr(?:y|ies)|"
    r"continent|nation)|born in(?! (?:the )?(?:year )?\d)(?! \.|$)|(?<!in )(?<!behind )(?:his|her|their|person's|"
    r"cultural|national|family) background(?! (?:colou?r|is|look))",
    # skin colour, which stands in for it
    r"skin(?:'s)? (?:colou?r|tone|shade|type|pigment)\w*|colou?r of (?:\w+ ){0,3}skin|complexion|melanin|\w+ skinned|"
    rf"(?:dark|light|fair|olive|{COLOUR})(?:er)? skin|skin(?: is| look| looks)* (?:dark|light|fair|{COLOUR})(?:er)?|"
    rf"what colou?r (?:is|are) (?:(?:this|that|the|these) )?{_PERSON}{_END}|(?:what|how) (?:colou?r|shade|dark|light|"
    rf"{COLOUR}) is (?:[\w']+ ){{0,3}}skin",
    # "Is she pale?"; not "Is the face dark?", which asks about the light
    rf"{_SOMEBODY}{_BETWEEN} {_SHADE}(?! (?:{COLOURED_THING}|blond\w*|brown|red|gr[ae]y))|how {_SHADE} (?:is|are|"
    rf"does) (?:\w+ )?{_SOMEBODY}",
    # German, French, Spanish (accents are gone, ß is ss)
    r"rass(?:en?|isch\w*)|herkunft|abstammung|volksgruppe|staatsangehorigkeit|hautfarbe|auslander\w*|"
    rf"(?:person|er|sie|mann|frau|es) (?:schwarz|weiss)(?: oder \w+)?{_END}|kommt \w+(?: \w+)? aus|"
    r"migrationshintergrund|woher|welche[sm] land|(?:er|sie|das|est|il|elle|es|son|sont)(?: une?| ein\w*|"
    r" una)? (?:tur[ckq]|ital|russ?|chin|jap[ao]n|[ck]orea|mexi|ameri|fran[cz]|spani|espa|grie|gre[cq]|pol[no]|alema|"
    r"allem|deutsch|maro[ck]|marroq|alg[ei]r|syr|iran|br[ae]sil|u[ck]ra)\w*|origines?|couleur de (?:la |sa )?peau|"
    rf"d'ou|quel pays|(?:il|elle|personne)(?: est)? (?:noire?|blanc|blanche)(?: ou \w+)?{_END}|ra[zc]z?as?|origen|"
    r"nacionalidad|color de (?:la |su )?piel|de donde|que pais|(?:^|persona |hombre |mujer |ella )(?:es )?(?:negr|"
    r"blanc)[oa]",
)

_KIN = (
    r"(?:mother|mom|mum|father|dad|parents?|sons?|daughters?|brothers?|sisters?|siblings?|twins?|cousins?|uncle|aunt|"
    r"grand\w+|nephew|niece|husband|wife|spouses?|relatives?|related|kin|boyfriend|girlfriend)"
)
IDENTITY = _rule(
    # "who is …", unless what follows is something visible to compare by
    r"who (?:is|are|was|were|am|might|could|can)\b(?! (?:be )?(?:the (?:one|person|face) )?(?:who is |"
    r"that is )?(?:the |not |also |more |most |less |least |looking |clearly |really )*(?:(?!being)\w+ing\b|"
    r"\w{2,}er\b|\w+est\b|turned|bald|blond\w*|bearded|happy|tall|young\w*|old\w*|male|female|left|in focus|right))|"
    r"who (?:he|she|they|this|that|it|these|those|the \w+)(?: \w+)? (?:is|are|was|were|might|could)|"
    rf"who (?:do|did) you|who (?:dis|dat|this|that|it|he|she|they){_END}|who (?:appears?|stars?|features?|posed?s?|"
    r"took (?:part|this|the)|participat\w+)|whose (?:face|photo|picture|portrait|image|head)(?! (?:is|looks|"
    r"seems) (?:\w+er\b|more|turned|\w+ing))|(?:his|her|their|whose|\w+'s) (?:\w+ )?names?|(?:what|which)(?: is|"
    rf" are)? (?:the )?names?(?! of (?:\w+ )?(?:{COLOURED_THING}|hair\w+|style|kind|type|font))|"
    rf"names? (?:of|to|for) (?:\w+ )?{_PERSON}|name (?:is|this|that|the|these) (?:\w+ )?{_PERSON}|"
    rf"(?:first|last|full|sur|nick|family) ?names?|name (?:him|her|them|it)|{_PERSON} called{_END}|"
    rf"id (?:him|her|this|the {_PERSON})|find (?:this|the) {_PERSON}|(?:this|that|it|he|she) (?:\w+ )?(?:me{_END}|"
    rf"(?:my|our) (?!pic|selfie|{COLOURED_THING})\w+)",
    # where to find a person, and looking them up
    r"(?:his|her|their|the|whose|person's|home|post\w*) (?:home |e )?(?:add?ress\w*|phone number|account|instagram|"
    r"mail|facebook|linkedin|tiktok|profile page|social media|employer)|"
    rf"where\b.{{0,20}} {_PERSON} (?:\w+ )?(?:lives?|living|resides?|works?|working|stud(?:y|ies)|stays?)|(?:which|"
    r"what) (?:\w+ )?(?:school|university|college|company|street|house|team|club|party|church) (?:does|do|did|is|are|"
    rf"was) (?:\w+ )?{_PERSON}|wo (?:wohnt|arbeitet|lebt)|ou (?:habite|vit|travaille)|donde (?:vive|trabaja)|"
    rf"(?:google|look up|search(?: for)?|doxx?|track down|background check)(?: \w+){{0,3}} (?:{_PERSON}|her|this|face)|"
    r"reverse (?:image )?search|database|(?:re ?)?identif(?:y|ies|ied|ying) (?:(?:the|this|that|these|any|all|both|"
    rf"who|young|old|\w+an) ){{0,3}}(?:{_PERSON}|who|(?:her|this|that){_END})|identit(?:y|ies)|identification|"
    rf"recogni[sz]e (?:\w+ )?(?:{_PERSON}|who|her|(?:this|that|it){_END})|(?:i|you|we) know (?:about )?(?:(?:this|that|"
    rf"the|these) (?:\w+ )?)?(?:{_PERSON}|her{_END}|who)|(?:guess|tell me|know|say) who|(?:i|you|we|"
    rf"ever) seen (?:\w+ )?{_PERSON}|famous|celebrit\w+|known (?:person|act\w+)|public figure|doppelganger|(?:(?:is|"
    r"are|was|be|isn't) (?:this|that|it|he|she|they|these) (?:really |perhaps |maybe |possibly )?(?:the |an? )?|"
    r"(?:which|what) )(?:\w+ )?(?:act(?:or|ress)|singer|president|politician|(?:movie|film|pop) star|king|queen|"
    r"footballer)",
    # the same person twice, and kinship: both compare faces
    rf"same {_PERSON}|different (?:people|persons)|faces? match|(?:is|are) (?:they|these|those|"
    r"the two|both|face and face|face) (?:\w+ )?(?:the same|family)|(?:pictures|photos|images) of one|"
    r"(?:a|face) (?:is|was|be|could be|might be) (?:really |also )?face|look(?:s|ing)? ?alikes?|"
    r"match\w* (?!each|every)(?:\w+ ){0,2}(?:faces?|person|passport|id|mugshot)|(?:looks?|looking) (?:\w+ )?(?:like|"
    rf"similar to) (?:face|him|her|them|each other)|resembl\w+ (?:\w+ )?{_PERSON}|(?:is|are|was|be|looks?|"
    rf"seem) (?:\w+ ){{0,4}}{_KIN}(?:{_END}| of| or| and| to)|married|divorced|(?:are|be) (?:\w+ ){{1,4}}(?:a couple|"
    rf"dating|lovers)|{_PERSON} single{_END}",
    # German, French, Spanish
    r"wer (?:ist|sind|war|konnte)\b(?! (?:\w+ )?(?:alter|junger|grosser|naher|am ))|wie heisst|"
    r"(?:sein|ihr|dessen|deren) name|name (?:der|dieser|des) (?:person|frau|mann\w*)|beruhmt\w*|prominente[rn]?|"
    r"(?:dieselbe|gleiche|meme|misma) (?:person\w*|famil\w+)|geschwister|bruder|schwestern?|zwilling\w*|verwandt\w*|"
    r"freres?|soeurs?|jumeaux|jumelles?|herman[oa]s?|gemel[oa]s?|parientes?|qui (?:est|sont|c'est)\b(?! (?:le |"
    r"la )?(?:plus|moins))|c'est qui|comment s'appelle|son nom|celebre|quien (?:es|son|sera|aparece|sale)\b(?! (?:el |"
    r"la )?(?:mas|menos|mayor|menor))|como se llama|su nombre|famos[oa]",
)

#: A name is asked for: "Is this Tom", "Could that be Ada Lovelace?". Looks at capitals, so at the text as written.
NAMED = re.compile(
    r"\b(?:(?:[Ii]s|[Ww]as|[Ii]sn't) (?:this|that|it|he|she)|(?:this|that|it|he|she) be)(?: really| maybe| perhaps)? "
    r"(?!Face|Person|Photo|Image|Picture)[A-Z][a-z]+|\b(?:person|man|woman|face|[Ll]ooks?|[Rr]esembles?)(?: like)? "
    r"[A-Z][a-z]+ [A-Z][a-z]+|"
    r"\b(?:[Ii]st das|[Cc]'est|[Ee]st-ce|[Ee]s|(?:[Ii]t|[Tt]h(?:is|at)|[Hh]e|[Ss]he)(?:'s| is)) [A-Z][a-z]+ [A-Z][a-z]+"
)

BELIEFS = _rule(
    r"religi\w*|faith|believer|m[uo]sl[ie]m\w*|islamic|christian\w*|cat?h?oli\w+|protestant\w*|jew(?:s|ish)?|hindus?|"
    r"sikhs?|bud+h?ist\w*|at?hei?st\w*|mormon|prays?|worship\w*|god|gay|lesb\w+|\w*sexu[ae]l\w*|queer|lgbt\w*|"
    r"trans(?:gender)?|attracted to|(?:into|likes?|prefers?) (?:wom[ae]n|m[ae]n|girls|boys|guys)|politic(?:s|al\w*)|"
    r"republican|democrat|(?:left|right) wing|communist|socialist|fascist|nazi|votes?|voter|supporter",
    # character, honesty, what somebody would do, and what to do with them
    r"[ck]rimin[ae]l\w*|crimes?|terrorist|thie(?:f|ves)|murder\w*|gangster|dangerous|guilty|innocent|suspicious|"
    r"trust\w*|(?:dis)?honest\w*|lying|liar|telling the truth|dece(?:iv|pt)\w+|evil|violen\w+|"
    r"(?:in|to) (?:prison|jail)|arrested|steals?|robs?|cheats?|betrays?|kills?|scam\w*|abus\w+|(?:would|should|could|"
    r"can|shall) (?:you|i|we|one) (?:\w+ )?(?:lend|hire|employ|promote|marry|believe|fear|"
    rf"avoid)(?: \w+){{0,2}} (?:{_PERSON}|her|this|that)|intell?igen\w*|iq|clever\w*|stupid\w*|dumb(?:er|est)?|genius|"
    r"competent|\w*educated|education|illiterate|personality|character (?:of|traits?)|(?:his|her|their) character|"
    r"(?:good|bad|great|better|ideal) (?:person|employee|worker|boss|leader|teacher|candidate|friend|parent)|"
    r"(?:in|ex)tr[oa]vert\w*|intentions?|motives?|psycho\w*|reliable|loyal",
    _of_person("(?:straight|smart|conservative|liberal|lazy|shy|kind|nice|friendly|rich|wealthy|poor)"),
    # how a person rates
    r"\w*attractive\w*|handsome|sexy|good looking|(?:hott|prett?i|ugli|cut|sexi)(?:er|est)|"
    rf"{_PERSON}{_BETWEEN} (?:pretty|beautiful|hot|cute|ugly)(?:{_END}| or| than)|rate (?:\w+ )?(?:looks|beauty|"
    rf"appearance|{_PERSON}|her{_END})",
    # health and habits
    r"a stroke|symptoms?|disorders?|disab\w+|autis\w+|syndrome|illness\w*|disease\w*|diagnos\w+|pregnan\w+|sick|"
    r"ill(?! (?:fitting|lit))|(?:un)?healthy|mental(?:ly| health)|drunk|fever|addict\w*|on drugs|alcoholic|cancer|"
    r"heart rate|adhd|medication|infect\w+|blood (?:pressure|type|group|sugar)|medical (?:condition|history|problem)|"
    rf"diabet\w+|vaccinated|allerg\w+|smokers?|drinkers?|{_PERSON} (?:smokes?|drinks?){_END}",
    # German, French, Spanish
    r"schwul|judisch|glaubig|krank|schwanger|ehrlich|klug|dumm|gefahrlich|vertrauenswurdig|musulman[eao]*|juive?|"
    r"chretien\w*|croyante?|malade|enceinte|honnete|dangereu\w+|fiable|judi[ao]|cristian[ao]|embarazada|enferm[ao]|"
    r"peligros[oa]|creyente",
)

_EXPRESSION_WORD = (
    r"(?:(?:un)?happ(?:y|ier|iest)|sad(?:der|dest)?|angr(?:y|ier|iest)|mad|furious|afraid|scared|fearful|frightened|"
    r"surprised|shocked|disgusted|joyful|cheerful|upset|glad)"
)
_INNER_WORD = (
    r"(?:depress(?:ed|ive)|anxious|nervous|stressed|worried|bored|lonely|in love|jealous|ashamed|embarrassed|proud|"
    r"confident|insecure|excited|relaxed|calm|tired|exhausted|in pain|frustrated|confused|satisfied|miserable|grieving|"
    r"annoyed|irritated|disappointed|relieved|amused)"
)
_FEEL = rf"(?:{_EXPRESSION_WORD}|{_INNER_WORD})"
INNER = _rule(_INNER_WORD)
FEELING = _rule(
    r"feel\w*|emotion\w*|having fun|enjoy\w*|(?:who|which)(?: \w+){0,3} (?:happi|sadd|angri)(?:er|est)|moods?|"
    rf"(?:state|frame) of mind|mental state|{_PERSON}(?: \w+){{0,5}} {_FEEL}|{_FEEL}(?: \w+)? {_PERSON}|"
    rf"(?:looks?|looking|seems?|appears?|how|faces?|expression|expressions) (?:is |so |very |more |most )?{_FEEL}|"
    rf"(?:^|option )(?:is it |is this |is that )?{_FEEL}|fuhlt|gefuhle?|glucklich|traurig|wutend|stimmung|ressent|"
    r"heureu\w+|triste|en colere|humeur|siente|emocion\w*|feliz|enojad[oa]|estado de animo",
)
COMPARED = _rule(r"(?:happi|sadd|angri)(?:er|est)", rf"(?:more|most) {_EXPRESSION_WORD}")

DEMOGRAPHICS = _rule(r"demograph\w+")

AGE = _rule(
    r"how old|age[ds]?|years? old|birth ?(?:year|date)|born|minors?|under ?age|adults?|grown up|teenagers?|elderly|"
    r"old (?:do |would )?(?:u|you)|old enough|of age|volljahrig|majeure?|mayor de|(?:twen|thir|for|fif|six|seven|eigh|"
    r"nine)t?ies|(?:uber|unter|alter als|junger als|mas de|menos de|plus de|moins de) \d+|(?:over|under|above|below|"
    r"older than|younger than|at least) \d+|wie alt|quel age|que edad|cuantos anos",
)
#: The question or its choices already speak of ranges.
RANGE = _rule(r"age (?:range|group|bracket|band|class)\w*|ranges?|decade|\d+ (?:to )?\d+|\d+s")
