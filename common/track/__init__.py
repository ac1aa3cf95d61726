"""The run store, MLflow and provenance. Import the modules: ``common.track.store`` in notebooks,
``common.track.code``, ``.mlflow_log`` and ``.provenance`` in the parent process only.

This file stays empty on purpose: what it imported would be part of every unit's code hash.
"""
