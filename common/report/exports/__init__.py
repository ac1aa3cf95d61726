"""Results in the formats of other tools: an RO-Crate with Croissant metadata and model cards, and MLflow's registry."""
