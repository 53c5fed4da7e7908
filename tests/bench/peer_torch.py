"""The peer: a training or evaluation step of the same network in PyTorch, on the same synthetic images.

    peer_torch.py PRESET train|eval f32|bf16 plain|channels_last|frozen|compiled BATCH THREADS SECONDS [cpu|cuda]

"compiled" is channels_last through torch.compile (PyTorch 2). Prints {"images_per_second", "steps", "step_ms", "rss_mb", "name"}, as bench_train does. PyTorch should be started
with the allocator settings of bench.py: with glibc's defaults its steps are slower.
"""

import json
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional

SIZE = 32
CLASSES = 10
WARM_STEPS = 3


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut: option A of He et al. 2015 (resnet20 ...), or a 1x1 convolution (resnet18)."""

    def __init__(self, channels_in, channels_out, stride, project):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.appended = channels_out - channels_in
        self.shortcut = None
        if project and (stride > 1 or self.appended):
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.stride > 1 or self.appended:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.appended))
        return functional.relu(y + x, inplace=True)


def resnet(widths, blocks, project):
    layers = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
    channels = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(Block(channels, width, 2 if stage > 0 and block == 0 else 1, project))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def build(preset):
    if preset == "resnet18":
        return resnet([64, 128, 256, 512], 2, True)
    return resnet([16, 32, 64], (int(preset.removeprefix("resnet")) - 2) // 6, False)


def freeze(model, images):
    """The network as TorchScript with its weights as constants: batch norm goes into the convolutions, layouts are chosen."""
    with torch.no_grad():
        return torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, images)))


def steps(model, optimizer, images, labels, training, bf16):
    """Endless steps; yields the seconds of each, which end when the loss is on the host."""
    while True:
        start = time.perf_counter()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            loss = functional.cross_entropy(model(images).float(), labels)
        if training:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        loss.item()
        yield time.perf_counter() - start


def main():
    preset, mode, precision, layout, batch, threads, seconds = sys.argv[1:8]
    device = (sys.argv[8:] or ["cpu"])[0]
    torch.manual_seed(1)
    torch.set_num_threads(int(threads))
    training = mode == "train"
    model = build(preset).train(training).to(device)
    images = torch.randn(int(batch), 3, SIZE, SIZE).to(device)
    labels = (torch.arange(int(batch)) % CLASSES).to(device)
    autocast = precision == "bf16" and layout != "frozen"
    if layout == "frozen" and precision == "bf16":  # all of it in bf16: autocast would convert the weights in every step
        model, images = model.bfloat16(), images.bfloat16()
    if layout != "plain":
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    if layout == "frozen":
        model = freeze(model, images)
    if layout == "compiled":
        model = torch.compile(model)
    optimizer = None if layout == "frozen" else torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    times = []
    with torch.set_grad_enabled(training):
        run = steps(model, optimizer, images, labels, training, autocast)
        for _ in range(WARM_STEPS):
            next(run)
        end = time.perf_counter() + float(seconds)
        while len(times) < 3 or time.perf_counter() < end:
            times.append(next(run))
    median = statistics.median(times)
    result = {"images_per_second": int(batch) / median, "steps": len(times), "step_ms": median * 1e3}
    result["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result | {"name": f"PyTorch {torch.__version__}"}))


if __name__ == "__main__":
    main()
