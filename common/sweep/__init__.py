"""Planning units, executing them by papermill, and collecting their rows.

Import the modules: ``common.sweep.unit`` in notebooks, the others in the parent process only. This file
stays empty on purpose: what it imported would be part of every unit's code hash.
"""
