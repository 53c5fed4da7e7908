#!/usr/bin/python3
"""count.py: writes the number of trainable values into expect.json of the cases named below. Every network is written down here a
second time, as modules of PyTorch, from its paper. Figures that are published anyway stand beside it, and must agree."""
import json
from pathlib import Path

from torch import nn


def conv(i, o, kernel, bias=False):
    return nn.Conv2d(i, o, kernel, bias=bias)


def conv_norm(i, o, kernel=3):
    return [conv(i, o, kernel), nn.BatchNorm2d(o)]


def vgg(stages, norm, colours=3):
    layers, i = [], colours
    for o, n in zip((64, 128, 256, 512, 512), stages):
        for _ in range(n):
            layers += conv_norm(i, o) if norm else [conv(i, o, 3, bias=True)]
            i = o
    return layers + [nn.Linear(512, 10)]


def basic(i, o):
    return conv_norm(i, o) + conv_norm(o, o) + (conv_norm(i, o, 1) if i != o else [])


def bottleneck(i, width):
    o = 4 * width
    return conv_norm(i, width, 1) + conv_norm(width, width) + conv_norm(width, o, 1) + (conv_norm(i, o, 1) if i != o else [])


def imagenet(block, expansion, stages, classes=10, kernel=3):
    layers, i = conv_norm(3, 64, kernel), 64
    for width, n in zip((64, 128, 256, 512), stages):
        for _ in range(n):
            layers += block(i, width)
            i = width * expansion
    return layers + [nn.Linear(i, classes)]


def preactivated(i, o, project):
    return [nn.BatchNorm2d(i), conv(i, o, 3), nn.BatchNorm2d(o), conv(o, o, 3)] + ([conv(i, o, 1)] if project and i != o else [])


def preactivation(widths, n, project):
    layers, i = [conv(3, 16, 3)], 16
    for o in widths:
        for _ in range(n):
            layers += preactivated(i, o, project)
            i = o
    return layers + [nn.BatchNorm2d(i), nn.Linear(i, 10)]


def page():
    whole = conv_norm(3, 64) + conv_norm(64, 128) + conv_norm(128, 128) + conv_norm(128, 128) + conv_norm(128, 256)
    return whole + conv_norm(256, 512) + conv_norm(512, 512) + conv_norm(512, 512) + [nn.Linear(512, 10, bias=False)]


def simplecnn():
    return [conv(3, 32, 3, True), conv(32, 64, 3, True), nn.Linear(64 * 8 * 8, 64), nn.Linear(64, 10)]


def mlp(inputs):
    return [nn.Linear(inputs, 512), nn.Linear(512, 512), nn.Linear(512, 10)]


# folder -> layers, published figure (None: there is none)
CASES = {
    "vgg11": (vgg((1, 1, 2, 2, 2), True), None),
    "vgg13": (vgg((2, 2, 2, 2, 2), True), None),
    "vgg16": (vgg((2, 2, 3, 3, 3), True), None),
    "vgg16-no-norm": (vgg((2, 2, 3, 3, 3), False), None),
    "resnet34": (imagenet(basic, 1, (3, 4, 6, 3)), None),
    "resnet50": (imagenet(bottleneck, 4, (3, 4, 6, 3)), None),
    # torchvision: "num_params" of the weights IMAGENET1K_V1
    "resnet18-imagenet": (imagenet(basic, 1, (2, 2, 2, 2), 1000, 7), 11689512),
    "resnet34-imagenet": (imagenet(basic, 1, (3, 4, 6, 3), 1000, 7), 21797672),
    "resnet50-imagenet": (imagenet(bottleneck, 4, (3, 4, 6, 3), 1000, 7), 25557032),
    "wide-resnet16-4": (preactivation((64, 128, 256), 2, True), None),
    "preact-resnet20": (preactivation((16, 32, 64), 3, False), None),
    "resnet9": (page(), None),
    "simplecnn": (simplecnn(), None),
    "mlp": (mlp(3 * 32 * 32), None),
    "mlp-28": (mlp(28 * 28), None),
}


def main():
    for folder, (layers, published) in CASES.items():
        count = sum(p.numel() for layer in layers for p in layer.parameters())
        assert published in (None, count), f"{folder}: {count} are counted, {published} published"
        path = Path(__file__).parent / folder / "expect.json"
        expected = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**expected, "parameters": count}, indent=1) + "\n", encoding="utf-8")
        print(folder, count)


if __name__ == "__main__":
    main()
