"""MLflow's model registry: registers a trained policy with its signature and its model card.

    python -m common publish-model agent_q --env shop-v1

Finished units keep the weights of every variant (1.6 MB each at nano size), as stages of their run folder; nothing is
registered by itself.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from common.config import ConfigError, load_yaml
from common.evaluate.claims import headline_metric
from common.report.exports.cards import best_variant, model_card
from common.rows import read_metrics
from common.sweep.unit import results_dir
from common.track.mlflow_log import Tracker
from common.track.provenance import PACKAGES
from common.track.store import UnitSpec, read_unit

TOKENS = 24
"""Most tokens that the registered model writes by default; more than any action or answer of the nano
policies."""

ROUND = re.compile(r"\.(?:r|it)(\d+)$")


def weight_folders(path: Path) -> dict[str, Path]:
    """variant → folder of its trained policy, in the run folder ``path``: the stage ``train.<variant>``, and of several
    rounds (``train.<variant>.r2``, ``.it2``) the last. Stages of other names, of roles for example, keep their name
    after ``train.``."""
    folders: dict[str, tuple[int, Path]] = {}
    for config in sorted((path / "stages").glob("train.*/**/config.json")):
        stage = config.parent.relative_to(path / "stages").as_posix().removeprefix("train.")
        number = ROUND.search(stage)
        name, place = ROUND.sub("", stage), int(number[1]) if number else 0
        if place >= folders.get(name, (0, path))[0]:
            folders[name] = (place, config.parent)
    return {name: folder for name, (_, folder) in folders.items()}


def finished(root: Path, paper: str, env: str, profile: str) -> dict[int, Path]:
    """seed → run folder of the finished units of a paper, environment and profile; the youngest where code has
    changed."""
    folders: dict[int, Path] = {}
    for done in sorted((root / "runs" / paper).glob("*/DONE"), key=lambda path: path.stat().st_mtime_ns):
        unit: UnitSpec = read_unit(done.parent)
        if (unit.env, unit.profile) == (env, profile):
            folders[unit.seed] = done.parent
    return folders


def publish_model(
    root: Path, paper: str, *, env: str, profile: str, variant: str | None, policy: str | None, seed: int | None,
) -> str:
    """Log the policy to the MLflow run of its variant and register it as ``<paper>.<variant>.<env>``; a sentence on it.

    ``variant`` is the one the card speaks of; default: of those with weights the one whose published mean of the
    paper's main metric is highest. ``policy`` names the weights where they are not the variant's name. ``seed``: the
    lowest by default, since the best on test tasks would be chosen by the test. ConfigError when there are no such
    weights.
    """
    units = finished(root, paper, env, profile)
    if not units or (seed is not None and seed not in units):
        what = f"seed {seed} of {paper}" if units else paper
        raise ConfigError(f"{what} in {env} is not finished here at profile {profile}, so there are no weights to "
                          f"publish; run: python -m common run --paper {paper} --envs {env} --profile {profile}")
    seed = min(units) if seed is None else seed
    path, rows = units[seed], read_metrics(results_dir(root, profile) / paper / "metrics.jsonl")
    available = weight_folders(path)
    here = [row for row in rows if row.env == env]
    chosen = variant or best_variant(here, list(available), headline_metric(root / "papers" / paper / "claims.yaml"))
    folder = available.get(policy or chosen or "")
    if folder is None:
        known = ", ".join(available) or "none: its agents are no language models"
        raise ConfigError(f"no weights of {policy or chosen or 'any variant with results'} are kept in "
                          f"{path.relative_to(root)} (there are: {known}); name them with --policy, and the variant "
                          "they belong to with --variant")
    license = load_yaml(root / "CITATION.cff", "CITATION.cff")["license"]
    card = model_card(root, rows, variant=chosen, env=env, license=license)
    name = ".".join((paper, chosen, env)) + (f".{policy.replace('/', '.')}" if policy and policy != chosen else "")
    with Tracker(root) as tracker:
        unit = tracker.reopen(read_unit(path).key)
        run = tracker.variant_run(unit, chosen)
        if not run:
            raise ConfigError(f"{path.relative_to(root)} has no run in the MLflow store {tracker.uri or '(none)'}, "
                              "which was made or moved after it was finished; run the unit with that store")
        version = _register(tracker.uri, unit.experiment_id, run, folder, name, card,
                            {"lab.seed": str(seed), "lab.policy": folder.name})
    return (f"{name} version {version}: weights of seed {seed} from {folder.relative_to(root)}; load them with "
            f'mlflow.pyfunc.load_model("models:/{name}/{version}")')


def _register(uri: str, experiment: str, run: str, folder: Path, name: str, card: str, tags: Mapping[str, str]) -> str:
    """Register the model; returns its version. The process ends after this, so MLflow's global state does no harm."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # MLflow would look for a card of the folder's name on the hub
    from importlib import metadata

    import mlflow
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    from common.lm.models import load_model
    from common.report.show import quiet

    quiet()
    for talker in ("mlflow.transformers", "mlflow.store.model_registry", "mlflow.tracking._model_registry"):
        logging.getLogger(talker).setLevel(logging.ERROR)  # "no model card on the hub", "registered": ours come below
    model, tokenizer = load_model(folder)
    text = Schema([ColSpec("string")])
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=experiment)
    info = mlflow.transformers.log_model(  # outside the run, which would be opened again and end today
        {"model": model, "tokenizer": tokenizer}, name="policy", task="text-generation",
        signature=ModelSignature(inputs=text, outputs=text), registered_model_name=name,
        model_config={"max_new_tokens": TOKENS, "do_sample": False, "return_full_text": False},
        pip_requirements=[f"{package}=={metadata.version(package)}" for package in PACKAGES[:2]])  # fmt: skip
    client = mlflow.MlflowClient(uri)
    client.log_outputs(run, [LoggedModelOutput(info.model_id, step=0)])
    version = str(info.registered_model_version)
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    client.update_model_version(name, version, description=card.partition("\n---\n")[2])
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "README.md").write_text(card, encoding="utf-8")
        client.log_model_artifact(info.model_id, str(Path(place) / "README.md"))
    return version
