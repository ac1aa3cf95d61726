# A CPU image of the laboratory: slim Debian with the Python of environment.yml, the packages of the two locks, and the repository with
# its panels and base models. Build it from a clone (with its .git folder); docs/install.md has the commands.
FROM python:3.11-slim-bookworm

# git and make for the commands of the README, a C compiler for the native sampler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev make \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home lab && install --directory --owner lab --group lab /lab
USER lab
WORKDIR /lab

# PyTorch's own index has a build for the CPU alone, which counts as the version that the lock pins. Without it the image holds the build for
# CUDA, several gigabytes larger: docker build --build-arg PIP_EXTRA_INDEX_URL=…
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1

# The packages in a layer of their own: an edit of the code installs nothing again.
COPY --chown=lab:lab requirements.lock requirements-tools.lock ./
RUN python -m venv .venv && .venv/bin/python -m pip install --quiet -r requirements.lock -r requirements-tools.lock

COPY --chown=lab:lab . .
RUN make data && mkdir -p runs mlruns
ENV PATH=/lab/.venv/bin:$PATH

CMD ["make", "repro"]
