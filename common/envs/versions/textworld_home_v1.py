"""textworld-home-v1: put a thing of a home where it usually belongs, in at most twelve steps.

    put vase away
    been pantry, kitchen
    did move south
    here vase
    kitchen: closed fridge, counter, closed kitchen cupboard, closed cutlery drawer, closed trash can, closed dishwasher, dining chair
    north pantry been, west living room

TextWorldExpress's game TextWorld Commonsense, three rooms of seven, without doors, one thing to put away (:mod:`common.envs.textworld.home`). The
thing lies in one of the rooms. ``put it in PLACE`` ends the task at any of its usual places, which no page tells, with reward 1; at another
place it stays until it is taken again. No step is beyond repair. In actions the thing is "it", so that a small model need not spell names that it
never saw.

**What there is to know.** The tasks of *train*, *validation* and *test* are about the same 35 things, in homes of which none is in two panels: where a thing
usually belongs can be learned in one panel and used in another. Of about twenty places in a home one to three are usual: who knows none and searches
succeeds in ``UNINFORMED`` of the tasks, who knows the first one in ``INFORMED``. A thing has several usual places in some homes; a fact names the first
of the package's list, and all homes of the panels have it.

*demos* teach a base model to be a visitor: they are about other things, and in most a fact is told (``told vase side table``, the first line). So a base
model can use what it is told, knows what stands in which room, and knows nothing of the panels' things. The one of seed 0 succeeds in .21 of 100
validation tasks (greedy .10), and in .84 (.82) with the fact told.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from common.envs.textworld.engine import package
from common.envs.textworld.game import INVALID as INVALID, Game
from common.envs.textworld.home import HomeEnv, HomeWorld
from common.envs.textworld.panels import panels_hash
from common.rng import generator
from common.types import Task

ENV_ID = "textworld-home-v1"
GAME = Game("twc", "numLocations=3,numItemsToPutAway=1,includeDoors=0,limitInventorySize=0", 12, world=HomeWorld)
FOLD, OTHERS = "test", "train"
"""The package's folds: the things of the panels, and those of *demos*."""
DEMOS, TOLD = 4000, 0.65
"""Demonstrated tasks, and in how many of them a fact is told."""
UNINFORMED, INFORMED = 0.28, 1.0
"""Share of test tasks done by one who tries all that is in a room, in any order, and then in the next one, and by one who knows the thing's first
usual place (``HomeEnv.visitor``, not told and told, ten and three times on each task: .279 and 1.000; the expert, who slips: .93)."""
TURNS = ("test", "train", "validation", "test", "train")
"""Panels that a thing's seeds go to, in turn."""
CHOSEN = {
    ("black golf shoes", "shoe cabinet"): "3 27 233 350 674 677 715 728 840 959 1034 1038 1086 1169 1223 1232 1549 1620 1967 2037 2134 2579 2596 2682 2704",
    ("blender", "kitchen cupboard"): "23 35 76 90 175 190 191 201 214 227 254 309 310 344 353 363 370 502 547 565 597 600 607 624 641",
    ("blue moccasins", "shoe cabinet"): (
        "119 345 566 614 694 732 1422 1503 1603 1690 1882 2036 2117 2175 2183 2380 2525 2586 2665 2690 2711 2775 2790 2879 2961"
    ),
    ("brown bed sheet", "chest of drawers"): (
        "1 65 68 80 157 649 997 1264 1365 1382 1490 1651 1676 1712 1780 1999 2239 3140 3316 3400 3647 3660 3668 3690 3726"
    ),
    ("brown blanket", "chest of drawers"): (
        "418 454 582 844 891 924 1093 1127 1237 1450 1506 1518 1582 1977 2047 2203 2213 2349 2459 3334 3648 3662 3681 3975 4002"
    ),
    ("brown cap", "hat rack"): "139 229 369 394 395 437 506 520 627 724 748 765 803 849 868 888 976 1051 1092 1130 1167 1180 1262 1267 1286",
    ("brown duvet", "chest of drawers"): "70 174 192 512 523 528 552 799 943 990 1060 1233 1453 1539 1615 1645 1749 1798 1807 2049 2055 2165 2215 2440 2494",
    ("brown sneakers", "shoe cabinet"): "28 128 225 377 382 383 389 431 510 764 1011 1041 1202 1412 1550 1710 1718 1794 1894 1939 2208 2236 2538 2545 2659",
    ("can opener", "cutlery drawer"): "25 72 86 129 136 187 206 218 257 260 270 343 378 513 515 621 667 808 839 856 881 903 975 985 1048",
    ("clean roasting tray", "kitchen cupboard"): (
        "5 194 315 473 553 560 595 778 909 1028 1117 1149 1151 1369 1393 1533 2084 2159 2162 2185 2233 2309 2355 2391 2548"
    ),
    ("clean whisk", "cutlery drawer"): "37 155 212 220 333 486 514 539 643 687 691 944 994 1067 1083 1112 1176 1220 1248 1274 1301 1315 1325 1351 1465",
    ("court shoes", "shoe cabinet"): "56 336 436 703 714 833 836 986 1277 1300 1430 1478 1649 1801 1846 2043 2155 2179 2216 2226 2477 2560 2593 2646 2764",
    ("dirty black polo shirt", "washing machine"): (
        "11 104 424 453 533 577 657 894 908 919 922 969 1139 1221 1240 1316 1709 2058 2120 2231 2552 2765 3006 3092 3280"
    ),
    ("dirty blue blazer", "washing machine"): (
        "12 96 269 425 522 557 1040 1179 1458 1781 1944 2251 2293 2450 2461 2485 2496 2565 2587 3009 3020 3066 3395 3517 3888"
    ),
    ("dirty blue jumper", "washing machine"): (
        "180 267 271 570 786 934 967 1170 1374 1392 1434 1765 1948 2009 2066 2465 2582 2735 2736 2886 2911 3082 3086 3157 3386"
    ),
    ("dirty checkered blazer", "washing machine"): (
        "148 469 518 647 731 792 862 966 1224 1448 1607 1742 1957 2132 2625 2678 3124 3261 3368 3389 3390 3406 3540 3717 3776"
    ),
    ("face cream", "dressing table"): "46 52 55 62 89 124 151 200 202 215 262 283 509 545 561 564 574 581 592 612 631 683 709 741 747",
    ("gray coat", "coat hanger"): "4 6 39 40 50 98 107 109 110 138 146 172 219 258 277 279 289 304 307 356 366 367 368 372 412",
    ("green hot pepper", "shelf"): "18 32 71 82 235 397 403 428 443 501 505 525 554 604 654 784 825 852 859 861 895 904 983 1023 1062",
    ("lip gloss", "dressing table"): "15 30 38 75 77 100 144 161 222 297 317 320 335 379 468 494 568 585 636 652 669 698 699 815 877",
    ("milk", "fridge"): "36 208 236 268 355 664 746 809 857 1045 1047 1135 1177 1256 1578 1626 1750 1855 1954 2033 2449 2482 2504 2603 2687",
    ("newspaper", "end table"): "26 73 84 156 163 196 237 299 318 391 400 419 444 458 463 464 558 599 609 679 697 722 726 772 865",
    ("notebook", "end table"): "66 94 105 112 141 170 171 173 178 198 231 241 255 261 380 393 406 432 447 460 477 542 546 630 638",
    ("olive oil", "shelf"): "19 83 125 149 159 177 179 197 247 388 404 411 734 753 779 942 1026 1313 1332 1340 1349 1403 1517 1536 1577",
    ("orange bell pepper", "fridge"): "29 248 387 622 723 729 730 776 791 802 1016 1036 1505 1835 1853 1904 1924 1938 1986 1997 2382 2480 3096 3387 3501",
    ("pork chop", "fridge"): "207 211 224 259 288 325 409 584 693 848 1063 1126 1184 1222 1283 1339 1370 1406 1447 1508 1528 1556 1572 1703 2020",
    ("red onion", "fridge"): "22 41 53 95 113 137 176 181 232 252 273 351 375 441 563 635 744 762 768 770 774 794 845 870 906",
    ("rotten green apple", "trash can"): "122 145 242 244 264 291 321 326 347 479 530 606 725 783 788 917 918 956 965 1014 1075 1147 1157 1174 1191",
    ("rotten red potato", "trash can"): "135 150 153 162 223 284 295 338 392 423 583 620 681 682 695 738 777 785 787 819 889 899 1032 1071 1162",
    ("shampoo", "bathroom cabinet"): "13 42 58 61 69 85 133 154 285 324 334 408 417 429 442 461 499 543 576 578 701 716 719 727 754",
    ("sugar", "shelf"): "120 127 130 230 238 249 256 282 339 360 361 373 445 511 646 684 737 806 818 920 1001 1008 1039 1044 1066",
    ("top hat", "hat rack"): "142 265 298 314 328 421 439 472 498 535 548 567 579 628 661 663 821 834 883 1002 1188 1282 1368 1371 1460",
    ("used q-tip", "trash can"): "63 78 91 97 108 131 140 152 168 183 189 210 263 311 341 348 359 414 480 481 484 489 507 537 538",
    ("white blanket", "chest of drawers"): (
        "88 302 349 711 736 850 982 1499 1656 1759 1819 1860 1906 1942 2087 2199 2378 2389 2464 2467 2512 2679 2787 2855 2935"
    ),
    ("white cap", "hat rack"): "226 253 296 364 497 550 591 658 696 702 767 843 923 1005 1146 1263 1312 1321 1328 1414 1454 1502 1606 1612 1627",
}
"""(Thing, its first usual place) → seeds of the panels; :func:`common.envs.textworld.home.choose` found them."""


def make(data_dir: Path) -> HomeEnv:
    return HomeEnv(ENV_ID, GAME)


def panels() -> dict[str, list[Task]]:
    """FileNotFoundError without the package."""
    package()
    made: dict[str, list[Task]] = {panel: [] for panel in dict.fromkeys(TURNS)}
    for turn in range(max(len(seeds.split()) for seeds in CHOSEN.values())):
        panel = TURNS[turn % len(TURNS)]
        for (thing, place), seeds in CHOSEN.items():
            seed = int(seeds.split()[turn])
            data = {"seed": seed, "fold": FOLD, "thing": thing, "place": place}
            made[panel].append(Task(f"{ENV_ID}/{panel}/{seed}", ENV_ID, panel, data))
    rng = generator(0, ENV_ID, "told")
    made["demos"] = [Task(f"{ENV_ID}/demos/{seed}", ENV_ID, "demos", {"seed": seed, "fold": OTHERS, "told": bool(rng.random() < TOLD)})
                     for seed in range(DEMOS)]  # fmt: skip
    return made


def data_hash() -> str:
    return panels_hash(ENV_ID, GAME, {"chosen": repr(CHOSEN), "demos": repr((OTHERS, DEMOS, TOLD))})


# -- reading pages ------------------------------------------------------------------------------------


def goal_of(text: str) -> str:
    """What a page is about; it can begin with what is told."""
    lines = text.split("\n")
    return lines[lines[0].startswith("told ")]


def thing_of(goal: str) -> str:
    return goal.removeprefix("put ").removesuffix(" away")


def first_page(goal: str) -> str:
    """What is shown of a goal before anything is done, without the room."""
    return f"{goal}\nno {thing_of(goal)}"


def did(text: str) -> str:
    """The previous action, as the page tells it; "" at the start."""
    return next((line for line in text.split("\n") if line.startswith("did ")), "")


def described(text: str) -> str:
    """The state that a page shows, in a few words that hold in other homes too; all of them are on pages. Of the ways only those to new rooms."""
    *_, state, room, ways = text.split("\n")
    if state.startswith("here "):
        return state
    new = " ".join(way.partition(" ")[0] for way in ways.split(", ") if not way.endswith(" been"))
    where = f"{state} in {room.partition(':')[0]}" if state.startswith("have ") else "no"
    return f"{where} new {new}" if new else where


def facts(steps: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What (page, action) pairs of an expert show that it knows: "put" → "vase side table", the first place that it opened or put the thing in
    when it had it."""
    for text, action in steps:
        thing, (verb, _, what) = thing_of(goal_of(text)), action.partition(" ")
        if f"\nhave {thing}\n" in text and verb in ("open", "put"):
            return {"put": f"{thing} {what.removeprefix('it in ')}"}
    return {}


# -- tasks ---------------------------------------------------------------------------------------------


def told_facts(task: Task) -> dict[str, str]:
    """All that can be told of a task of the panels: "place" → "vase side table"."""
    return {"place": f"{task.data['thing']} {task.data['place']}"}


def told_of_home(task: Task) -> tuple[str, str]:
    """The goal of a task of the panels as a page begins, and all that can be told of it."""
    return f"put {task.data['thing']} away", told_facts(task)["place"]
