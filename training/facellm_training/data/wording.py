"""How each task is asked and answered: several phrasings, options, yes/no forms and sentences.

No answer can be derived from a question: every phrasing of a task is used with every class.
"""

from __future__ import annotations

from facellm_training.data.labels import TASKS

#: Questions that go with lettered options or ask for one of the class names.
ASK: dict[str, tuple[str, ...]] = {
    "age": (
        "How old does this person look?",
        "Which age range fits this face?",
        "What is the visible age range?",
        "Estimate the age group of the person in this image.",
        "About how old is this person?",
    ),
    "gender": (
        "Is this person male or female?",
        "What is the perceived gender?",
        "Does this face look male or female?",
        "Gender?",
    ),
    "race": ("Which group does this face seem to belong to?", "Which race label fits this face?"),
    "glasses": (
        "Which glasses does this person wear?",
        "What kind of glasses can be seen?",
        "Glasses?",
        "What is worn over the eyes?",
    ),
    "facial_hair": (
        "Which facial hair does this person have?",
        "What facial hair can be seen?",
        "Facial hair?",
        "How is the beard worn?",
    ),
    "smile": ("How strongly does this person smile?", "How broad is the smile?", "Smile?", "Which smile can be seen?"),
    "mouth": ("How is the mouth?", "What does the mouth show?", "Mouth?", "Is the mouth closed or open?"),
    "hair_color": ("What colour is the hair?", "Which hair colour can be seen?", "Hair color?", "Hair colour?"),
    "hair_length": ("How is the hair worn?", "How long is the hair?", "Hair length?"),
    "headwear": (
        "What does this person wear on the head?",
        "Which headwear can be seen?",
        "Headwear?",
        "What covers the head?",
    ),
    "expression": (
        "Which expression can be seen?",
        "What is the visible expression?",
        "Expression?",
        "What does the face seem to express?",
    ),
    "background": ("What is behind the person?", "Which background can be seen?", "Background?"),
    "yaw": (
        "Which way is the head turned?",
        "Where does the head point?",
        "Head direction?",
        "Is the head turned to the left or right of the picture?",
    ),
    "turn": ("How far is the head turned?", "What is the head pose?"),
    "pitch": ("Is the head raised or lowered?", "How is the head tilted up or down?"),
    "eyes": ("Are the eyes open or closed?", "How are the eyes?"),
    "brightness": ("How bright is the picture?", "How is the light?", "Brightness?"),
    "sharpness": ("How sharp is the picture?", "Is the picture sharp or blurred?", "Sharpness?"),
}

#: What a class is called as an option, where it differs from its label.
OPTION: dict[str, dict[str, str]] = {
    "glasses": {"none": "no glasses"},
    "facial_hair": {"none": "no facial hair"},
    "smile": {"none": "no smile", "slight": "slight smile", "broad": "broad smile"},
    "mouth": {"closed": "closed mouth", "teeth": "teeth visible", "open": "open mouth"},
    "headwear": {"none": "nothing", "other": "something else"},
    "yaw": {"left": "left", "frontal": "to the camera", "right": "right"},
    "eyes": {"open": "open", "closed": "closed"},
}

#: Yes/no questions: task → (question phrasings, classes that mean yes, sentence after "Yes, …"/"No, …").
#: ``{x}`` is the class in words of :data:`SAY`.
YES_NO: dict[str, tuple[tuple[tuple[str, ...], frozenset[str]], ...]] = {
    "glasses": (
        (
            (
                "Is this person wearing glasses?",
                "Does the person wear glasses?",
                "Are there glasses on the face?",
                "Can you see glasses?",
            ),
            frozenset({"eyeglasses", "sunglasses"}),
        ),
        (("Is this person wearing sunglasses?", "Are those sunglasses?"), frozenset({"sunglasses"})),
    ),
    "smile": (
        (
            ("Is this person smiling?", "Is there a smile?", "Does the person smile?"),
            frozenset({"slight", "broad"}),
        ),
        (("Is it a broad smile?", "Is this person smiling broadly?"), frozenset({"broad"})),
    ),
    "facial_hair": (
        (
            ("Does this person have facial hair?", "Is there any facial hair?"),
            frozenset({"stubble", "moustache or goatee", "beard"}),
        ),
        (("Does this person have a beard?", "Is there a full beard?"), frozenset({"beard"})),
    ),
    "headwear": (
        (
            (
                "Is this person wearing a hat or other headwear?",
                "Is something worn on the head?",
                "Does the person wear a hat?",
                "Is the head covered?",
            ),
            frozenset({"cap", "hat", "headscarf", "other"}),
        ),
    ),
    "mouth": (
        (("Is the mouth closed?", "Are the lips closed?"), frozenset({"closed"})),
        (("Are teeth visible?", "Can the teeth be seen?"), frozenset({"teeth"})),
    ),
    "gender": (
        (("Does this person look male?", "Does this look like a man or boy?"), frozenset({"male"})),
        (("Does this person look female?", "Does this look like a woman or girl?"), frozenset({"female"})),
    ),
    "age": (
        (("Is this a child?", "Does this person look younger than 10?"), frozenset({"0-2", "3-9"})),
        (
            ("Is this an adult?", "Does this person look at least 20 years old?"),
            frozenset({"20-29", "30-39", "40-49", "50-59", "60-69", "70+"}),
        ),
        (("Does this person look older than 50?",), frozenset({"50-59", "60-69", "70+"})),
    ),
    "yaw": ((("Is this person facing the camera?", "Is the face frontal?"), frozenset({"frontal"})),),
    "eyes": ((("Are the eyes closed?", "Does this person have closed eyes?"), frozenset({"closed"})),),
    "hair_color": (
        (("Is the hair grey or white?",), frozenset({"grey or white"})),
        (("Does this person have black hair?", "Is the hair black?"), frozenset({"black"})),
        (("Does this person have blond hair?", "Is the hair blond?"), frozenset({"blond"})),
    ),
    "sharpness": ((("Is the picture sharp?", "Is the image in focus?"), frozenset({"sharp"})),),
    "brightness": ((("Is the picture dark?", "Is it underexposed?"), frozenset({"dark"})),),
}

#: One clause per class, for sentences.
SAY: dict[str, dict[str, str]] = {
    "age": {
        "0-2": "the face looks 0 to 2 years old",
        "3-9": "the face looks 3 to 9 years old",
        "10-19": "the face looks 10 to 19 years old",
        "20-29": "the face looks 20 to 29 years old",
        "30-39": "the face looks 30 to 39 years old",
        "40-49": "the face looks 40 to 49 years old",
        "50-59": "the face looks 50 to 59 years old",
        "60-69": "the face looks 60 to 69 years old",
        "70+": "the face looks 70 years old or more",
    },
    "gender": {"male": "the face looks male", "female": "the face looks female"},
    "glasses": {
        "none": "no glasses are worn",
        "eyeglasses": "eyeglasses are worn",
        "sunglasses": "sunglasses cover the eyes",
    },
    "facial_hair": {
        "none": "there is no facial hair",
        "stubble": "there is stubble",
        "moustache or goatee": "there is a moustache or goatee",
        "beard": "there is a beard",
    },
    "smile": {"none": "there is no smile", "slight": "there is a slight smile", "broad": "there is a broad smile"},
    "mouth": {
        "closed": "the mouth is closed",
        "teeth": "the lips are parted and teeth are visible",
        "open": "the mouth is open",
    },
    "hair_color": {
        "black": "the hair is black",
        "brown": "the hair is brown",
        "blond": "the hair is blond",
        "grey or white": "the hair is grey or white",
        "red": "the hair is red",
        "covered": "the hair is covered",
    },
    "hair_length": {
        "short": "it is worn short",
        "medium": "it is of medium length",
        "long": "it is worn long",
        "tied": "it is tied back",
        "covered": "the hair is covered",
    },
    "headwear": {
        "none": "nothing is worn on the head",
        "cap": "a cap is worn",
        "hat": "a hat is worn",
        "headscarf": "a headscarf is worn",
        "other": "something is worn on the head",
    },
    "expression": {
        "neutral": "the expression looks neutral",
        "happy": "the face shows a happy expression",
        "speaking": "the person seems to be speaking",
        "other": "the expression is neither neutral nor a smile",
    },
    "background": {
        "plain": "the background is plain",
        "outdoor": "the background looks outdoors",
        "indoor": "the background looks indoors",
        "crowd": "other people are in the background",
    },
    "turn": {
        "far left": "the head is turned far to the left of the picture",
        "slightly left": "the head is turned slightly to the left of the picture",
        "frontal": "the head faces the camera",
        "slightly right": "the head is turned slightly to the right of the picture",
        "far right": "the head is turned far to the right of the picture",
    },
    "yaw": {
        "left": "the head is turned to the left of the picture",
        "frontal": "the head faces the camera",
        "right": "the head is turned to the right of the picture",
    },
    "pitch": {"up": "the head is raised", "level": "the head is level", "down": "the head is lowered"},
    "eyes": {"open": "the eyes are open", "closed": "the eyes are closed"},
    "brightness": {"dark": "the picture is dark", "normal": "the light is sufficient", "bright": "the light is bright"},
    "sharpness": {
        "blurred": "the picture is blurred",
        "soft": "the picture is slightly soft",
        "sharp": "the picture is sharp",
    },
}

#: Aspect key → further phrasings beside the product's own, and the tasks its answer speaks of, in order.
ASPECT_PHRASINGS: dict[str, tuple[str, ...]] = {
    "attributes": ("Who can be seen?", "Describe the person.", "Describe the demographic attributes that are visible."),
    "structure": ("Describe the hair.", "What do the face and hair look like?", "Describe the facial structure."),
    "skin": ("Is there a beard or stubble? Describe it.", "Describe the facial hair."),
    "expression": ("What expression is visible?", "Describe the expression.", "What does the mouth do?"),
    "quality": ("How good is the image?", "Describe the light.", "Describe the image quality."),
    "pose": ("Describe the pose.", "How is the head held?", "Where is the person facing?"),
    "forensic": ("Is the face fully visible?", "What hides parts of the face?", "Describe occlusions."),
    "detail": (
        "Describe this image.",
        "What do you see?",
        "Describe the face in detail.",
        "Tell me about this picture.",
    ),
}
ASPECT_TASKS: dict[str, tuple[str, ...]] = {
    "attributes": ("age", "gender", "glasses", "headwear"),
    "structure": ("hair_color", "hair_length", "headwear", "age"),
    "skin": ("facial_hair", "age"),
    "expression": ("expression", "smile", "mouth", "eyes"),
    "quality": ("brightness", "sharpness", "background"),
    "pose": ("turn", "pitch", "eyes"),
    "forensic": ("glasses", "headwear", "turn"),
    "detail": ("age", "gender", "expression", "hair_color", "glasses", "facial_hair", "headwear", "turn", "sharpness"),
}

#: Asked of every picture alike; a face crop cannot answer them.
UNSEEN_QUESTIONS: tuple[str, ...] = (
    "What shoes does this person wear?",
    "How tall is this person?",
    "What is this person's job?",
    "What is in this person's hands?",
    "How much does this person weigh?",
    "What is this person thinking?",
    "What time is it in this picture?",
    "What colour are the trousers?",
    "Is this person married?",
    "What music does this person like?",
    "How many children does this person have?",
    "In which city was this taken?",
)
UNSEEN_ANSWER = "That cannot be seen in this picture."

JSON_KEYS: dict[str, str] = {
    "age": "age",
    "gender": "gender",
    "glasses": "glasses",
    "smile": "smile",
    "headwear": "headwear",
    "facial_hair": "facial_hair",
    "hair_color": "hair",
}


def option_text(task: str, index: int) -> str:
    """What class ``index`` of a task is called as an option."""
    name = TASKS[task][index]
    return OPTION.get(task, {}).get(name, name)
