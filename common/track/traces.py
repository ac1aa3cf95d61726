"""Episodes and dialogues that a finished unit kept, as MLflow traces: one trace each, a span for every turn.

They are made from ``artifacts/rollouts.<variant>.jsonl`` (prompt, action, log-probability, reward) and
``artifacts/dialogues.<variant>.jsonl`` (prompt, answer, right or wrong, and the role where there are several); a method
knows nothing of them. A turn's tokens and time are not recorded: no trace counts tokens, and every
turn lasts one millisecond from the time the unit was finished, so that the timeline shows their order and nothing
else. Pixel episodes (``episodes.*.json``) are no turns of text and become no traces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KINDS = ("rollouts", "dialogues")
TURN_NS = 1_000_000
NAMES = {"answer": "text", "correct": "right"}
"""Two words for one thing: the papers of one agent write the first, those of several the second."""
OWN = ("task", "step", "turn", "prompt", "action", "text")
"""Fields of a recorded turn that are its place, its input or its output; the others become attributes."""
_PER_LINK = 100

Turns = Sequence[Mapping[str, Any]]


def recorded_episodes(artifacts: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """variant → task id → turns, in the order recorded. Empty when the unit kept neither episodes nor dialogues."""
    episodes: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for path in sorted(path for kind in KINDS for path in artifacts.glob(f"{kind}.*.jsonl")):
        tasks = episodes.setdefault(path.name.partition(".")[2].removesuffix(".jsonl"), {})
        for line in path.read_text(encoding="utf-8").splitlines():
            turn = {NAMES.get(name, name): value for name, value in json.loads(line).items()}
            tasks.setdefault(turn["task"], []).append(turn)
    return episodes


def trace_id(run_id: str, variant: str, task: str) -> str:
    """The same for the same run, variant and task: an episode that is sent twice is in the store once."""
    return "tr-" + hashlib.sha256(f"{run_id}\0{variant}\0{task}".encode()).hexdigest()[:32]


def spans(turns: Turns, *, trace: str, variant: str, tags: Mapping[str, str], at_ns: int) -> list[Any]:
    """One episode as MLflow spans, the whole first: input is the first prompt, output the last action or answer.

    Its attributes are the last turn's reward, or whether its last answer is right, the sum of the log-probabilities
    where they are recorded, and the number of turns; ``tags`` become the trace's. ``at_ns``: when the unit was
    finished.
    """
    last, logprobs = turns[-1], [turn["logprob"] for turn in turns if "logprob" in turn]
    whole = {"turns": len(turns), **{name: last[name] for name in ("reward", "done", "right") if name in last}}
    whole |= {"logprob": round(sum(logprobs), 4)} if logprobs else {}
    tags = {**tags, "mlflow.traceName": f"{variant} {last['task']}", "lab.variant": variant, "lab.task": last["task"],
            **{f"lab.{name}": str(last[name]) for name in ("reward", "right") if name in last}}
    whole |= {f"mlflow.traceTag.{name}": value for name, value in tags.items()}
    made = [_span(trace, 0, f"{variant} {last['task']}", "AGENT", (at_ns, at_ns + len(turns) * TURN_NS),
                  turns[0]["prompt"], _output_text(last), whole)]  # fmt: skip
    for k, turn in enumerate(turns):
        who = turn.get("role", "step" if "step" in turn else "turn")
        more = {name: value for name, value in turn.items() if name not in OWN}
        start = at_ns + k * TURN_NS
        made.append(_span(trace, k + 1, f"{k + 1} {who}: {_output_text(turn)[:60]}", "LLM", (start, start + TURN_NS),
                          turn["prompt"], _output_text(turn), more))  # fmt: skip
    return made


def send(client: Any, experiment: str, by_run: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
    """Store traces (run id → trace id → spans), all in one transaction, and show each on its run.

    ``client`` is an ``MlflowClient``. NotImplementedError from a server older than MLflow 3.4.
    """
    from mlflow.tracing.client import TracingClient

    all_spans = [span for traces in by_run.values() for spans in traces.values() for span in spans]
    TracingClient(client.tracking_uri).log_spans(experiment, all_spans)
    for run_id, traces in by_run.items():
        names = list(traces)
        for start in range(0, len(names), _PER_LINK):
            client.link_traces_to_run(names[start : start + _PER_LINK], run_id)


def _output_text(turn: Mapping[str, Any]) -> str:
    return str(turn.get("action", turn.get("text", "")))


def _span(trace: str, number: int, name: str, kind: str, times: tuple[int, int], inputs: str, outputs: str,
          attributes: Mapping[str, Any]) -> Any:  # fmt: skip
    from mlflow.entities import Span

    content = {"mlflow.traceRequestId": trace, "mlflow.spanType": kind, "mlflow.spanInputs": inputs,
               "mlflow.spanOutputs": outputs, **attributes}  # fmt: skip
    return Span.from_dict({
        "trace_id": trace, "span_id": f"{number + 1:016x}", "parent_span_id": f"{1:016x}" if number else None,
        "name": name, "start_time_unix_nano": times[0], "end_time_unix_nano": times[1], "status": {"code": "OK"},
        "events": [],
        "attributes": {key: json.dumps(value) for key, value in content.items()},
    })  # fmt: skip
