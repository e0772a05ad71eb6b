"""What the product does not infer from a face, and what it says instead. All of it is in this file.

* Ethnicity, race, origin, nationality, and skin colour, which stands in for them: not inferred
  (EU AI Act Art. 5(1)(g); GDPR Art. 9). Evaluation measures the model's racial *bias* and
  therefore has ``RESEARCH_ENV``; nothing else may use it.
* Who a person is, or whether two pictures show the same person: not answered; there is no
  identification in this product.
* Religion, politics, sexuality, character, honesty, health: cannot be seen, not inferred.
* Inner feelings: the question is turned towards the visible expression (Art. 5(1)(f)).
* Age: answered, as a range and with a note that it is not an age check.

Rules are patterns over the question's words: simple, readable, and testable. They err
towards explaining; an explanation costs the user one more sentence, an inference can harm.
They know English well and the commonest German, French and Spanish words; they are a
signpost for people who ask in good faith, not a wall against people who do not.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass

from facellm.core.aspects import aspect

#: Set to "1" by the evaluation commands only; documented in docs/privacy.md.
RESEARCH_ENV = "FACELLM_RESEARCH_ETHNICITY"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``refusal``: what is said instead of asking the model; otherwise ``question`` is asked and ``note`` shown.

    ``topic``: the rule that spoke ("ethnicity", "identity", "beliefs", "feeling", "demographics", "age"), or "".
    """

    question: str
    refusal: str = ""
    note: str = ""
    topic: str = ""


def judge(question: str, choices: tuple[str, ...] = ()) -> Verdict:
    """Decide what to do with a question. Choices are read as part of it."""
    words = _words(question) + "".join(f" option {_words(choice)}" for choice in choices)
    if _asks_ethnicity(words, _words(question), choices) and os.environ.get(RESEARCH_ENV) != "1":
        return Verdict(question, refusal=_ETHNICITY_TEXT, topic="ethnicity")
    if _BELIEFS.search(words):
        return Verdict(question, refusal=_BELIEFS_TEXT, topic="beliefs")
    if _IDENTITY.search(words) or _NAMED.search(question):
        return Verdict(question, refusal=_IDENTITY_TEXT, topic="identity")
    if _FEELING.search(words):
        return _about_feeling(question, words, choices)
    if _DEMOGRAPHICS.search(words):
        return Verdict(aspect("attributes").question, note=_DEMOGRAPHICS_NOTE, topic="demographics")
    if _AGE.search(words) and not _RANGE.search(words):
        return Verdict(question, note=_AGE_NOTE, topic="age")
    return Verdict(question)


def _about_feeling(question: str, words: str, choices: tuple[str, ...]) -> Verdict:
    """Open questions become a description; closed ones stay if their choices are names of expressions."""
    if choices and _INNER.search(words):
        return Verdict(question, refusal=_FEELING_TEXT, topic="feeling")
    if not _COMPARED.search(words) and {choice.strip().lower() for choice in choices} != {"yes", "no"}:
        question = "Which expression can be seen?" if choices else aspect("expression").question
    return Verdict(question, note=_FEELING_NOTE, topic="feeling")


def _asks_ethnicity(words: str, question: str, choices: tuple[str, ...]) -> bool:
    """``words``: question and choices; ``question``: the question's own words."""
    if _ETHNICITY.search(words):
        return True
    named = [_words(choice) for choice in choices]
    if any(_NATION.fullmatch(choice) for choice in named):
        return True
    # "Which fits? black / white" is about the person unless the question names a thing that has a colour.
    colours = [choice for choice in named if re.fullmatch(_COLOUR, choice)]
    return len(colours) > 1 and not re.search(rf"\b(?:{_COLOURED_THING}|colou?rs?)\b", question)


# --- The explanations ---------------------------------------------------------------------------------------------

_VISIBLE = "You can ask about what is visible instead: hair, glasses, expression, pose, light."
_ETHNICITY_TEXT = (
    "FaceLLM does not infer ethnicity, race or origin from a face: a face does not show them reliably, and "
    f"inferring them can harm people. {_VISIBLE}"
)
_BELIEFS_TEXT = (
    "FaceLLM does not infer beliefs, orientation, character or health from a face: they cannot be seen. " + _VISIBLE
)
_IDENTITY_TEXT = (
    "FaceLLM does not say who a person is and keeps no faces to compare with. "
    "You can ask what the person looks like instead."
)
_FEELING_TEXT = (
    "FaceLLM does not choose between feelings: a face shows movement, not what a person feels. "
    "You can ask about the visible expression instead: a smile, a frown, open or closed eyes, the mouth."
)
_FEELING_NOTE = "A face shows movement, not feelings: the answer describes the visible expression."
_DEMOGRAPHICS_NOTE = "FaceLLM describes the visible age range and attributes; it does not infer ethnicity or origin."
_AGE_NOTE = "An age is estimated from looks: read it as a range, and never as an age check."


# --- The words, as the patterns below see them --------------------------------------------------------------------


def _words(text: str) -> str:
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

_COLOUR = r"(?:black|white|brown|colou?red)"
_COLOURED_THING = (
    r"(?:hairs?|haired|beard|beards|moustache|mustache|goatee|stubble|eyebrows?|brows?|eyelash\w*|eyes?|eyed|pupils?|"
    r"glasses|eyeglasses|sunglasses|spectacles|frames?|framed|rims?|rimmed|lens\w*|hats?|caps?|beanie|helmet|hood|"
    r"hoodie|headscarf|headband|hijab|scarf|turban|veil|shirts?|t shirts?|tshirts?|blouse|jacket|coat|suit|suits|tie|"
    r"dress|sweater|jumper|pullover|top|collar|uniform|clothes|clothing|outfit|vest|bra|gloves?|shoes?|trousers|"
    r"earrings?|necklace|jewell?ery|masks?|paint|make up|makeup|lipstick|lips|teeth|nails?|background|wall|borders?|"
    r"bars?|car|sky|spots?|dots?|marks?|balance|noise|levels?|light|ink|photo|photograph|picture|image|frame|flag|"
    r"stripes?|strap|pixels?|areas?|shadows?|tattoos?|helmets|headphones|headset|text|letters|flowers?)"
)
_MATERIAL = (
    r"(?:leather|cotton|woollen|woolen|silk|denim|metal|plastic|rimmed|framed|round|square|thick|thin|baseball|cowboy|"
    r"knitted|knit|surgical|face|polo|bow|long|short|curly|straight|wavy|dark|light|striped|small|big|large|t)"
)

#: Taken out before any rule looks: words that mean something else in company.
_INNOCENT = re.compile(
    rf"""\b(?:
      {_COLOUR}(?:\ (?:or|and)\ \w+)?(?:\ {_MATERIAL}){{0,2}}\ {_COLOURED_THING} |
      (?:in|wear\w*|wore|dressed\ in|all)\ {_COLOUR}(?!\ (?:man|woman|person|boy|girl|people|guy|male|female|face|or)) |
      {_COLOUR}\ and\ {_COLOUR} |
      (?:un)?even\ skin\ tone | skin\ tone\ (?:is\ |look\ |looks\ )?(?:un)?even |
      rac(?:e|ing)\ (?:car|cars|track|bike|number|bib|suit|helmet|driver|horse|flag|day) |
      (?:horse|bike|boat|car|foot|motor|road)\ races? | (?:at|during|ran|running|won)\ (?:a|the|this)\ race |
      origin\ of\ the\ (?:light|shadow) | (?:light|shadows?|glare|reflections?|sun)(?:\ \w+){{0,6}}\ from |
      \w+\ (?:text|letters?|letterings?|characters|writing|script|alphabet|flag)\b |
      tribal\ tattoos? | straight\ (?:hair|face|line|nose|teeth|ahead|at|into|on|in|to|back|down|fringe|bangs) |
      name\ ?(?:tag|badge|plate|tags|badges|plates) | brand\ names? | identif\w+\ (?:marks?|features?) |
      lying\ (?:down|on|in|back|flat) | (?:which|what)\ (?:country|continent|region|place|city|town)
      \ (?:was|is|were)\ (?:this|it|the)\ (?:(?:photo\w*|picture|image)\ )?(?:taken|shot|made|recorded)
    )\b""",
    re.VERBOSE,
)

_PERSON = (
    r"(?:persons?|people|man|men|woman|women|boys?|girls?|kids?|child|children|baby|guys?|lad(?:y|ies)|gentlem[ae]n|"
    r"individuals?|subjects?|human|someone|somebody|one|he|she|they|you|him|them|males?|females?|adults?|teenagers?|"
    r"teens?|couple|family|parents?|faces?)(?!')"
)
_BETWEEN = (
    r"(?: (?:is|are|was|were|be|being|been|look|looks|looking|appear|appears|appearing|seem|seems|to|as|like|a|an|of|"
    r"more|most|rather|really|actually|probably|likely|maybe|perhaps|possibly|either|or|half|part|partly|mostly|"
    r"originally|ethnically|very|not|considered|classified|described|categori[sz]ed|identified|young|old|older|here))*"
)


def _of_person(kind: str) -> str:
    """``kind`` said of a person: "is the man really KIND", "a KIND young woman"."""
    adjective = r"(?: (?:or|and|young|old|older|elderly|middle|aged|adult|looking|single|\w+an|\w+ish|male|female))*"
    return rf"{_PERSON}{_BETWEEN} {kind}|{kind}{adjective} {_PERSON}"


# --- The rules ----------------------------------------------------------------------------------------------------

_NATION = _rule(
    r"chinese|japanese|koreans?|vietnamese|thai|filipin[oa]s?|malay\w*|indonesians?|indians?|pakistanis?|bengali|"
    r"bangladeshis?|sri lankan|nepal\w+|tibetans?|mongol\w*|turk|turkish|turks|kurd\w*|persians?|iranians?|iraqis?|"
    r"syrians?|lebanese|israelis?|palestinians?|saudi|egyptians?|moroccans?|algerians?|tunisians?|nigerians?|kenyans?|"
    r"ethiopians?|somalis?|ghanaians?|congolese|jamaicans?|haitians?|cubans?|mexicans?|brazilians?|colombians?|"
    r"peruvians?|argentin\w+|chilean|americans?|canadians?|australians?|europeans?|british|brit|english|scottish|irish|"
    r"welsh|french|germans?|italians?|spanish|spaniard|portuguese|greeks?|russians?|ukrainians?|polish|pole|czech|"
    r"hungarians?|romanians?|bulgarians?|serb\w*|croat\w*|albanians?|dutch|belgians?|swiss|austrians?|swedish|swede|"
    r"norwegians?|danish|dane|finnish|finn|icelandic|western|westerner|eastern"
)

_ETHNICITY = _rule(
    # the thing by its names
    r"ethn\w*|races?|\w*racial\w*|ancest\w+|descent|descended|descendants?|heritage|lineage|bloodline|genealog\w+|"
    r"genetic\w*|dna|haplogroup|phenotyp\w+|nationalit\w*|nationality|citizenship|citizen|origins?|originat\w+|"
    r"birthplace|place of birth|homeland|hometown|home country|motherland|fatherland|immigrants?|migrants?|"
    r"immigration|refugees?|foreign\w*|trib(?:e|es|al)|caste|clan|minorit\w+|indigenous|aborigin\w+|natives?|"
    r"(?:people|persons?|wom[ae]n|m[ae]n) of colou?r|mother tongue|(?:language|accent)\b.{0,25}\b(?:speaks?|has|have)",
    # groups that are never said of anything else here
    r"asians?|asiatic|eurasians?|africans?|afro\w*|caucasians?|caucasoid|latin[oax]s?|latin american|hispanics?|"
    r"arabs?|arabic|middle east(?:ern\w*)?|negro\w*|mongoloid|oriental|mestiz\w+|mulatt\w+|gyps(?:y|ies)|romani|"
    r"slavic|slav|nordic|scandinavian|mediterranean|anglo saxon|semitic|polynesian|melanesian|pacific islander|"
    r"aryan|mixed blood|bipoc",
    _of_person(rf"(?:{_COLOUR}|mixed|non white|{_NATION.pattern})"),
    rf"^{_COLOUR}(?: or {_COLOUR})*$",
    # origin by paraphrase
    rf"where\b.{{0,30}}\b{_PERSON}.{{0,40}}\b(?:from|born|grew|grow|hail)",
    rf"{_PERSON}(?: (?:come|comes|coming|hail|hails))?{_BETWEEN} from"
    r"(?! (?:the |a |an )?(?:left|right|front|side|behind|above|below|back|camera|top|bottom|head|far|near|close))",
    r"(?:come|comes|hails?) from (?:which|what|asia|africa|europe|india|china|america)",
    r"(?:country|region|continent|nation|world|cultur\w+|communit\w+|groups?|population)\b.{0,40}"
    r"\b(?:from|comes?|belongs?|born|represents?|hails?)",
    r"(?:which|what) (?:country|countries|continent|nation)|born in(?! (?:the )?(?:year )?\d)|from where is",
    r"(?<!in )(?<!behind )(?:his|her|their|person's|cultural|national|family) background(?! (?:colou?r|is|look))",
    # skin colour, which stands in for it
    r"skin(?:'s)? (?:colou?r|tone|shade|type|pigment)\w*|colou?r of (?:\w+ ){0,3}skin|complexion|melanin|\w+ skinned",
    rf"(?:dark|light|fair|olive|{_COLOUR})(?:er)? skin|skin(?: is| look| looks)* (?:dark|light|fair|{_COLOUR})(?:er)?",
    rf"what colou?r (?:is|are) (?:(?:this|that|the|these) )?{_PERSON}{_END}|"
    rf"(?:what|how) (?:colou?r|shade|dark|light|{_COLOUR}) is (?:[\w']+ ){{0,3}}skin",
    # German, French, Spanish (accents are gone, ß is ss)
    r"rassen?|rassisch\w*|herkunft|abstammung|volksgruppe|staatsangehorigkeit|nationalitat|hautfarbe|auslander\w*|"
    rf"(?:person|er|sie|mann|frau|es) (?:schwarz|weiss)(?: oder (?:schwarz|weiss))?{_END}|kommt \w+(?: \w+)? aus|"
    r"migrationshintergrund|asiat\w*|afrikan\w*|araber\w*|woher|aus welchem land|welches land",
    r"origines?|nationalite|couleur de (?:la |sa )?peau|asiatique|africaine?|arabe|d'ou (?:vient|est|sont)|quel pays|"
    rf"vient d'ou|(?:il|elle|personne) (?:noire?|blanche?|blanc)(?: ou (?:noire?|blanche?|blanc))?{_END}",
    r"razas?|etnias?|origen|etnic[oa]s?|nacionalidad|color de (?:la |su )?piel|asiatic[oa]|african[oa]|"
    r"de donde|que pais|razza|raca",
)

_IDENTITY = _rule(
    # "who is …", unless what follows is something visible to compare by
    r"who (?:is|are|was|were|am|might|could|can)\b(?! (?:be )?(?:the (?:one|person|face) )?(?:who is |that is )?"
    r"(?:the |not |also |more |most |less |least |looking |clearly |really )*(?:(?!being)\w+ing\b|\w{2,}er\b|\w+est\b|"
    r"turned|closer|bald|blond\w*|bearded|happy|happier|tall|young\w*|old\w*|male|female|left|right|darker|brighter))",
    r"who (?:he|she|they|this|that|it|these|those|the \w+)(?: \w+)? (?:is|are|was|were|might|could)|who (?:do|did) you|"
    r"who dat|whose (?:face|photo|picture|portrait|image|head)(?! (?:is|looks|seems) (?:\w+er\b|more|turned|\w+ing))",
    r"(?:his|her|their|whose|\w+'s) (?:\w+ )?names?|(?:what|which)(?: is| are)? (?:the )?names?|names? of (?:\w+ )?"
    rf"{_PERSON}|name (?:is|this|that|the|these) (?:\w+ )?{_PERSON}|(?:first|last|full|sur|family) ?names?|surname|"
    rf"nickname|name (?:him|her|them|it)|{_PERSON} called{_END}|(?:his|her|their) (?:address|phone|account|instagram)|"
    rf"id (?:him|her|this|the {_PERSON})|find (?:this|the) {_PERSON}|is (?:this|that|it|he|she) (?:me|my \w+){_END}",
    rf"(?:re ?)?identif(?:y|ies|ied|ying) (?:(?:the|this|that|these|any|all|both|who|young|old|\w+an) ){{0,3}}"
    rf"(?:{_PERSON}|who|(?:her|this|that){_END})",
    r"identit(?:y|ies)|identification",
    rf"recogni[sz]e (?:\w+ )?(?:{_PERSON}|her|who|this|that|it){_END}|recogni[sz]e (?:\w+ )?(?:{_PERSON}|who|her)",
    rf"(?:do|did) (?:you|we) know (?:{_PERSON}|her|this|that|the|who|these)|(?:guess|tell me|know|say) who|"
    rf"seen (?:this|that|the) {_PERSON} before",
    r"famous|celebrit\w+|(?:well )?known (?:person|actor|actress)|public figure|look ?alike|doppelganger",
    r"(?:is|are|was|be) (?:this|that|it|he|she|they|these) (?:really |perhaps |maybe |possibly )?(?:the |an? )?"
    r"(?:\w+ )?(?:actor|actress|singer|president|politician|movie star|film star|pop star|king|queen|footballer)",
    # the same person twice, and kinship: both compare faces
    r"(?:the )?same (?:person|man|woman|face|guy|people|individual|girl|boy|one)|match(?:es|ing)? (?:\w+ )?faces?|"
    r"faces? match|face \w+ (?:is|are)? ?the same|(?:is|are) (?:they|these|those|the two|both|face and face|face)"
    r" (?:\w+ )?(?:the same|related|siblings|twins|brothers?|sisters?|relatives|family|father and|mother and)|"
    r"(?:pictures|photos|images) of one|(?:his|her|their) (?:mother|father|parents?|son|daughter|brother|sister)",
    # German, French, Spanish
    r"wer (?:ist|sind|war|konnte)\b(?! (?:\w+ )?(?:alter|junger|grosser|naher|am ))|wie heisst|"
    r"(?:sein|ihr|dessen|deren) name|name (?:der|dieser|des) (?:person|frau|mann\w*)|beruhmt\w*|prominente[rn]?|"
    r"dieselbe person|gleiche person",
    r"qui (?:est|sont|c'est)\b(?! (?:le |la )?(?:plus|moins))|c'est qui|comment s'appelle|"
    r"son nom|celebre|meme personne",
    r"quien (?:es|son|sera|aparece|sale)\b(?! (?:el |la )?(?:mas|menos|mayor|menor))|como se llama|"
    r"su nombre|famos[oa]|misma persona",
)

#: A name is asked for: "Is this Tom", "Could that be Ada Lovelace?". Looks at capitals, so at the text as written.
_NAMED = re.compile(
    r"\b(?:(?:[Ii]s|[Ww]as|[Ii]sn't) (?:this|that|it|he|she)|(?:this|that|it|he|she) be)(?: really| maybe| perhaps)? "
    r"(?!Face|Person|Photo|Image|Picture)[A-Z][a-z]+|\b(?:person|man|woman|face|[Ll]ooks?|[Rr]esembles?)(?: like)? "
    r"[A-Z][a-z]+ [A-Z][a-z]+|\b(?:[Ii]st das|[Cc]'est|[Ee]st-ce|[Ee]s) [A-Z][a-z]+ [A-Z][a-z]+"
)

_BELIEFS = _rule(
    r"religio\w*|faith|believer|muslims?|moslems?|islamic|christians?|catholic|protestant|jew|jews|jewish|hindus?|sikhs?|"
    r"buddhists?|atheists?|mormon|pray|prays|worship\w*|god",
    r"gay|lesbian|bisexual|homosexual\w*|heterosexual\w*|queer|lgbt\w*|trans|transgender|sexual\w*|attracted to",
    r"politic\w*|republican|democrat|left wing|right wing|communist|socialist|fascist|nazi|votes?|voter|supporter",
    r"criminal\w*|crimes?|terrorist|thief|murderer|gangster|dangerous|guilty|innocent|suspicious|trust|trusted|"
    r"trustworth\w*|honest\w*|dishonest\w*|lying|liar|telling the truth|deceiv\w+|deceptive|intelligen\w*|iq|clever|"
    r"personality|character traits?|character of|good person|bad person|evil",
    _of_person("(?:straight|smart|conservative|liberal)"),
    r"disab\w+|autis\w+|syndrome|illness\w*|disease\w*|diagnos\w+|pregnan\w+|sick|healthy|unhealthy|mental health|"
    r"mentally|drunk|addict\w*|on drugs|alcoholic|cancer|diabet\w+",
    r"schwul|lesbisch|judisch|moslemisch|muslimisch|muslima?|religiose?|glaubig|kriminell\w*|krank|schwanger",
    r"musulmane?|juive?|chretien\w*|homosexuel\w*|croyante?|criminel\w*|malade|enceinte",
    r"musulman[ao]|judi[ao]|cristian[ao]|embarazada|enferm[ao]",
)

_EXPRESSION_WORD = (
    r"(?:happy|unhappy|happier|happiest|sad|sadder|saddest|angry|angrier|angriest|mad|furious|afraid|scared|fearful|"
    r"frightened|surprised|shocked|disgusted|joyful|cheerful|upset|glad)"
)
_INNER_WORD = (
    r"(?:depressed|depressive|anxious|nervous|stressed|worried|bored|lonely|in love|jealous|ashamed|embarrassed|proud|"
    r"confident|insecure|excited|relaxed|calm|tired|exhausted|in pain|frustrated|confused|satisfied|miserable|grieving)"
)
_FEEL = rf"(?:{_EXPRESSION_WORD}|{_INNER_WORD})"
_INNER = _rule(_INNER_WORD)
_FEELING = _rule(
    r"feel|feels|feeling|feelings|emotion\w*|moods?|state of mind|frame of mind|mental state",
    rf"{_PERSON}(?: \w+){{0,5}} {_FEEL}|{_FEEL}(?: \w+)? {_PERSON}",
    rf"(?:looks?|looking|seems?|appears?|how|faces?|expression|expressions) (?:is |so |very |more |most )?{_FEEL}",
    rf"(?:^|option )(?:is it |is this |is that )?{_FEEL}",
    r"fuhlt|gefuhle?|emotionen|glucklich|traurig|wutend|stimmung|ressent|emotions|heureu\w+|triste|en colere|humeur|"
    r"siente|emocion\w*|feliz|enojad[oa]|estado de animo",
)
_COMPARED = _rule(r"(?:happi|sadd|angri)(?:er|est)", rf"(?:more|most) {_EXPRESSION_WORD}")

_DEMOGRAPHICS = _rule(r"demograph\w+")

_AGE = _rule(
    r"how old|ages?|aged|years? old|birth ?year|birth ?date|year of birth|when\b.{0,30}\bborn|born|minors?|under ?age|"
    r"adults?|grown up|teenagers?|(?:over|under|above|below|older than|younger than|at least) \d+|wie alt|quel age|"
    r"que edad|cuantos anos"
)
#: The question or its choices already speak of ranges.
_RANGE = _rule(r"age (?:range|group|bracket|band|class)\w*|ranges?|decade|\d+ (?:to )?\d+|\d+s")
