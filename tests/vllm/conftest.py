"""The real thing: vLLM with a tiny model, in the engine's processes and as a server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from judge.engines.vllm import INTERPRETER, VllmEngine

HERE = Path(__file__).parent
DEFAULT = HERE.parents[1] / ".venv-vllm" / "bin" / "python"
NAME = "tiny"
LENGTH = 4096
START_SECONDS = 1800.0


@dataclass(frozen=True)
class TinyModel:
    """Folders of a model, and of a LoRA adapter of it."""

    model: Path
    adapter: Path


@dataclass(frozen=True)
class Server:
    """A vLLM that serves the OpenAI protocol; `url` ends in /v1."""

    url: str
    model: str
    pid: int


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    """What keeps vLLM small and offline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("VLLM_NO_USAGE_STATS", "1")
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_HOST_IP", "127.0.0.1")
        patch.setenv("TORCHDYNAMO_DISABLE", "1")  # on a CPU it compiles for seconds, for nothing
        yield


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """A Python that has vLLM; tests that need it skip where there is none."""
    python = Path(os.environ.get(INTERPRETER, DEFAULT))
    if not python.is_file():
        pytest.skip(
            f"no {python}; `make vllm` makes it, or name a Python with vLLM in {INTERPRETER}"
        )
    found = subprocess.run(
        [python, "-c", "import importlib.util as u; exit(u.find_spec('vllm') is None)"], check=False
    )
    if found.returncode:
        pytest.skip(f"{python} has no vLLM; name one that has in {INTERPRETER}")
    return str(python)


@pytest.fixture(scope="session")
def tiny_model(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([vllm_python, HERE / "tiny_model.py", folder], check=True, capture_output=True)
    return TinyModel(folder / "model", folder / "adapter")


@pytest.fixture(scope="session")
def engine(vllm_python: str, tiny_model: TinyModel) -> Iterator[VllmEngine]:
    """An engine without a ledger, loaded once."""
    with VllmEngine(tiny_model.model, interpreter=vllm_python, max_model_len=LENGTH) as made:
        yield made


@pytest.fixture(scope="session")
def vllm_server(
    vllm_python: str, tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of the tiny model on a free port of this machine."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving(vllm_python, tiny_model.model, log) as made:
        yield made


@pytest.fixture(scope="session")
def serve() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """Starts a server; see `serving`."""
    return serving


@contextlib.contextmanager
def serving(python: str, model: Path, log: Path, *more: str) -> Iterator[Server]:
    """A server of a model, told more."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # -P: tests and packages here have folders named vllm.
    command = [python, "-P", "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(model), "--served-model-name", NAME]
    command += ["--host", "127.0.0.1", "--port", str(port), "--seed", "0"]
    command += ["--dtype", "float32", "--max-model-len", str(LENGTH), "--enforce-eager"]
    command += ["--max-num-seqs", "32", "--max-num-batched-tokens", "8192"]
    # Chunked prefills and seeded draws do not go together on a CPU.
    command += ["--no-enable-chunked-prefill", "--no-enable-prefix-caching"]
    command += ["--structured-outputs-config"]
    command += ['{"backend": "xgrammar", "disable_any_whitespace": true}', *more]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + START_SECONDS
        while not _healthy(url):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"vLLM did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.3)
        yield Server(f"{url}/v1", NAME, process.pid)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        # Its own session: what is left of it, and nothing else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
