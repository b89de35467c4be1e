"""Names and words that problems are made of: short, common, of one spelling."""

NAMES = tuple(
    "Ann Bob Cid Dan Eve Fay Gus Hal Ida Jim Kim Leo Mia Ned Ola Pam Ron Sue Tom Uma Vic Wes Zoe".split()  # noqa: SIM905
)
THINGS = tuple("apples books coins cups eggs hats keys nuts pens pins plums shells stamps toys".split())  # noqa: SIM905
WORDS = tuple(
    (  # noqa: SIM905
        "ant apple arm bag ball barn bear bell bird boat bone book bowl box bread brush bus cake camp car card cat "
        "chair child clock cloud coat coin corn cow cup desk dish dog door dress drum duck ear egg eye face farm field "
        "fire fish flag floor flower foot fork fox frog game gate ghost girl glass goat grass hand hat hen hill horse "
        "house ice ink island jam jar jet key king kite knee knife lake lamp leaf leg lemon lion map milk moon mouse "
        "nail neck nest night nose nut ocean onion oven page paint pan paper pen pig plant plum queen rain ring river "
        "road rock roof rope rose salt sand sea seed sheep ship shoe snow soap song spoon star stone sun table tail "
        "tent tiger tooth train tree uncle van wall watch wave wheel wind wing wolf wood year zebra"
    ).split()
)
CONSONANTS = "bcdfghjklmnprstvwz"
VOWELS = "aeiou"
