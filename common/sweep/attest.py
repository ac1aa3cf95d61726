"""``python -m common attest``: run the probes of layers whose code is new, and say whether they behave as before.

    python -m common attest                    # layers whose code no probe has run yet; writes fingerprints.json
    python -m common attest search --check     # runs the probe again, writes nothing, fails when it says something else
    python -m common attest --paper malt --against ../before/runs

The last compares finished units of two codes of a paper, row by row (:mod:`common.sweep.compared`).

A probe that trains gives other values on another kind of processor. So where values moved, the code that was attested last is run here
too, out of git: what it gives as well, the machine moved and not the edit.
"""

from __future__ import annotations

import datetime
import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.config import ConfigError, hint, known_papers, load_spec
from common.envs import ENV_IDS, env_file
from common.probes import NotAttestable
from common.sweep.adopt import adopt, base_keys
from common.sweep.identity import Identities
from common.sweep.inputs import write_identities
from common.track.fingerprints import KEPT, Behaviour, Fingerprints, Value, behaviour_id, differences, rounded, write_fingerprints
from common.track.layers import ENV, LAYERS, Covered, Layer, covered, env_layer
from common.track.processor import model

SHOWN = 8
"""Most moved values that are printed of a layer."""


def known_layers() -> dict[str, Layer]:
    """All layers by name, environments last."""
    return {layer.name: layer for layer in (*LAYERS, *(env_layer(env, env_file(env)) for env in ENV_IDS))}


def attest(root: Path, names: Sequence[str], *, check: bool) -> int:
    """Run the probes of ``names`` (default: of all layers) where that is needed, print a line for each; the exit code.

    Without ``check`` only layers whose code or probe is new are run, and ``fingerprints.json`` and ``results/identity/`` are
    written. With it all are run, nothing is written, and the exit code is 1 when one is not attested or behaves otherwise than the file says.
    """
    layers = known_layers()
    for name in names:
        if name not in layers:
            raise ConfigError(f'layer: "{name}" is unknown; {hint(name, layers)}')
    identities, failed, behaves, started = Identities(root), 0, {}, time.monotonic()
    before = base_keys(root, identities)
    for name in names or layers:
        present = covered(identities.modules, layers[name])
        if check:
            failed += not _checked(layers[name], present, identities.prints)
        elif not _unchanged(name, present, identities.prints):
            if (values := _run(layers[name])) is not None:
                behaves[name] = _recorded(root, name, present, values, identities.prints)
    if check:
        return 1 if failed else 0
    if behaves:
        _pruned(root, identities)
        write_fingerprints(root, identities.prints)
    new = [name for name, same in behaves.items() if not same]
    if new:
        print(f"results of these papers are stale: {', '.join(_reaching(root, identities, new)) or 'none'}")
    for line in (*adopt(root, identities, before), *write_identities(root, Identities(root))):
        print(line)
    attested = sum(identities.prints.known(name, covered(identities.modules, layers[name]).digest) is not None for name in layers)
    print(f"{attested} of {len(layers)} layers are attested; {time.monotonic() - started:.0f} s")
    return 0


def _unchanged(name: str, present: Covered, prints: Fingerprints) -> bool:
    known = prints.known(name, present.digest)
    return known is not None and prints.layers[name][known].probe == present.probe


def _run(layer: Layer) -> dict[str, Value] | None:
    """What the layer's probe returns, rounded; None, with a line that says why, where it cannot run here."""
    probe = importlib.import_module(layer.entries[0].removesuffix(".py").replace("/", ".")).probe
    start = time.monotonic()
    try:
        env = layer.name.removeprefix(ENV)
        values = rounded(probe() if env == layer.name else probe(env))
    except NotAttestable as error:
        print(f"{layer.name}: not attestable here: {error}", flush=True)
        return None
    print(f"{layer.name}: {len(values)} values in {time.monotonic() - start:.1f} s; ", end="", flush=True)
    return values


def _checked(layer: Layer, present: Covered, prints: Fingerprints) -> bool:
    """Whether the layer behaves as the file says; prints what it does."""
    known = prints.known(layer.name, present.digest)
    values = _run(layer)
    if values is None:
        return True
    if known is None:
        print("not attested; run: python -m common attest", flush=True)
        return False
    recorded = prints.layers[layer.name][known]
    if recorded.probe != present.probe:
        print("the probe has changed since it was recorded; run: python -m common attest", flush=True)
        return False
    moved = differences(recorded.values, values)
    print("OTHER than recorded" + _listed(moved) if moved else f"as recorded ({known})", flush=True)
    return not moved


def _recorded(root: Path, name: str, present: Covered, values: Mapping[str, Value], prints: Fingerprints) -> bool:
    """Record what the layer's probe returned; False when the layer behaved otherwise before."""
    known, behaviours = prints.known(name, present.digest), prints.layers.setdefault(name, {})
    if known is not None:  # the code is the same, so its probe sees other things of the same behaviour
        behaviours[known] = Behaviour(present.probe, dict(values), behaviours[known].attested)
        print("the probe has changed; its values were recorded anew", flush=True)
        return True
    moved = {id_: differences(one.values, values) for id_, one in behaviours.items()}
    same = next((id_ for id_, one in moved.items() if not one), None)
    entry, how = {"date": datetime.date.today().isoformat(), "commit": _commit(root)}, "values recomputed as before"
    if same is None and moved:
        nearest = min(moved, key=lambda id_: len(moved[id_]))
        if commit := _same_here(root, name, behaviours[nearest], values):
            same, how = nearest, f"values as the code of {commit} gives on this processor, {model()}"
    if same is None:
        id_ = behaviour_id(values)
        behaviours[id_] = Behaviour(present.probe, dict(values), {present.digest: entry | {"what": f"{len(values)} values seen first"}})
        print(f"{'a new' if moved else 'its first'} behaviour ({id_}){_listed(min(moved.values(), key=len, default={}))}", flush=True)
        return not moved
    n, own = len(behaviours[same].values), behaviours[same]
    behaviours[same] = Behaviour(present.probe, {**values, **own.values}, own.attested | {
        present.digest: entry | {"what": f"{n} of {n} {how}"}})
    print(f"the same behaviour ({same}): results stay{'' if not moved[same] else f'; {how}'}", flush=True)
    return True


_PROBE = """
import importlib, json, sys
from common.track.fingerprints import rounded
print(json.dumps(rounded(importlib.import_module(sys.argv[1]).probe(*sys.argv[2:]))))
"""


def _same_here(root: Path, name: str, before: Behaviour, values: Mapping[str, Value]) -> str:
    """The commit that attested ``before`` last, when its code gives ``values`` on this machine; "" when it gives others or cannot be run."""
    clean = [one for one in before.attested.values() if one["commit"] and not one["commit"].endswith("+")]
    if not clean:
        return ""
    commit = max(clean, key=lambda one: one["date"])["commit"]
    packed = subprocess.run(["git", "-C", str(root), "archive", commit, "common"], capture_output=True, check=False)
    if packed.returncode:
        return ""
    env = name.removeprefix(ENV)
    probe = known_layers()[name].entries[0].removesuffix(".py").replace("/", ".")
    with tempfile.TemporaryDirectory() as folder:
        tarfile.open(fileobj=io.BytesIO(packed.stdout)).extractall(folder, filter="data")
        run = subprocess.run([sys.executable, "-c", _PROBE, probe, *([] if env == name else [env])], cwd=folder, capture_output=True,
                             text=True, check=False, env=os.environ | {"PYTHONPATH": folder})  # fmt: skip
    if run.returncode:
        return ""
    return commit if not differences(json.loads(run.stdout.splitlines()[-1]), values) else ""


def _listed(moved: Mapping[str, str]) -> str:
    if not moved:
        return ""
    more = f"\n  and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    return f"; {len(moved)} values moved:" + "".join(f"\n  {name}: {how}" for name, how in list(moved.items())[:SHOWN]) + more


def _reaching(root: Path, identities: Identities, names: Sequence[str]) -> list[str]:
    """Papers that depend on one of the layers."""
    papers = []
    for paper in known_papers(root):
        spec = load_spec(root, paper)
        if any(set(names) & identities.parts_of_unit(spec, env).layers.keys() for env in spec.envs):
            papers.append(paper)
    return papers


def _pruned(root: Path, identities: Identities) -> None:
    """Forget behaviours that neither the present code nor a published table has, and all but the first and the latest digests."""
    prints, layers = identities.prints, known_layers()
    published = "".join(path.read_text(encoding="utf-8") for path in sorted(root.glob("results/*/source.json")))
    for name, behaviours in prints.layers.items():
        present = covered(identities.modules, layers[name]).digest if name in layers else ""
        for id_, one in list(behaviours.items()):
            if present not in one.attested and json.dumps(id_) not in published:
                del behaviours[id_]
                continue
            dated = sorted(one.attested, key=lambda digest: one.attested[digest]["date"])
            retained = {present, *dated[:1], *dated[1 - KEPT :]}
            one.attested = {digest: entry for digest, entry in one.attested.items() if digest in retained}


def _commit(root: Path) -> str:
    """The commit on which the attested code stands, with a mark when files differ from it."""
    def asked(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False).stdout.strip()

    head = asked("rev-parse", "--short=12", "HEAD")
    return head + ("+" if head and asked("status", "--porcelain", "--", "common") else "")
