"""Puts the GPU's kernels into one C file: build.py OUTPUT.c [NVCC].

With nvcc they are compiled for the devices of ARCHITECTURES that it knows; what ptxas says of registers goes to OUTPUT.ptxas, which
`tests/run lint` reads. Their source goes along for NVRTC, without nvcc it alone."""

import os
import pathlib
import re
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parent
MAIN = FOLDER / "kernels.cu"
# Compute capabilities of which there are GPUs with 7.5 and more; those between run the code of the next lower one of the same major
# version, and all others have the PTX of the first one compiled for them by the driver.
ARCHITECTURES = ["75", "80", "86", "89", "90", "100", "120"]
SMALLER = (13, 0)  # nvcc of CUDA 12 compresses for size, too, but its older drivers cannot read that; all of CUDA 13 can


def output_of(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def flags(nvcc: str) -> list[str]:
    known = output_of(nvcc, "--list-gpu-code").split()
    found = [a for a in ARCHITECTURES if f"sm_{a}" in known]
    if not found:
        sys.exit(f"{nvcc} compiles for none of {', '.join('sm_' + a for a in ARCHITECTURES)}: name another one in NVCC, or none")
    version = re.search(r"release (\d+)\.(\d+)", output_of(nvcc, "--version"))
    smaller = version is not None and (int(version[1]), int(version[2])) >= SMALLER
    codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in found]
    return codes + [f"-gencode=arch=compute_{found[0]},code=compute_{found[0]}"] + ["--compress-mode=size"] * smaller


def fatbin(nvcc: str, output: pathlib.Path) -> bytes:
    """--fmad=false: the arithmetic is that of the same source compiled as C."""
    binary = output.with_suffix(".fatbin")
    common = ["-std=c++17", "-fatbin", "--fmad=false", "-Xptxas=-v", "--threads=2", "-I."]
    said = output_of(nvcc, *common, *flags(nvcc), "-o", str(binary), str(MAIN))
    output.with_suffix(".ptxas").write_text(said, encoding="utf-8")
    data = binary.read_bytes()
    return data + bytes(-len(data) % 8)


def sources() -> dict[str, str]:
    """kernels.cu first, then what it includes, directly or not, by the names behind #include."""
    texts, waiting = {}, [str(MAIN)]
    while waiting:
        name = waiting.pop(0)
        if name not in texts:
            texts[name] = pathlib.Path(name).read_text(encoding="ascii")
            waiting += re.findall(r'^#include "(.+)"$', texts[name], re.MULTILINE)
    return texts


def literal(text: str) -> str:
    lines = text.replace("\\", "\\\\").replace('"', '\\"').splitlines()
    return "\n     ".join(f'"{line}\\n"' for line in lines)


def main() -> None:
    output = pathlib.Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    data = fatbin(sys.argv[2], output) if len(sys.argv) > 2 else b""
    words = [f"0x{int.from_bytes(data[i:i + 8], 'little'):x}" for i in range(0, len(data), 8)] or ["0"]
    files = sources()
    text = (
        "/* Made by server/backend/cudnn/kernels/build.py: do not edit. */\n"
        '#include "server/backend/cudnn/kernels/embedded.h"\n\n'
        f"_Alignas(16) const uint64_t kernels_fatbin[] = {{\n{','.join(words)}}};\n"
        f"const size_t kernels_fatbin_size = {len(data)};\n"
        f"const char *const kernels_names[] = {{{', '.join(f'{chr(34)}{name}{chr(34)}' for name in files)}}};\n"
        f"const char *const kernels_texts[] = {{\n    {(',' + chr(10) + '    ').join(literal(t) for t in files.values())}}};\n"
        f"const size_t kernels_files_n = {len(files)};\n"
    )
    part = output.with_name(output.name + ".part")
    part.write_text(text, encoding="ascii")
    os.replace(part, output)


main()
