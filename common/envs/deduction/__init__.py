"""A small social-deduction game: its world and messages (:mod:`world`), and exact beliefs about it (:mod:`belief`)."""
