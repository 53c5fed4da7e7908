#!/usr/bin/python3
"""Makes the golden numbers of tests/golden: what PyTorch gives for ten training steps from weights and images of a formula.

    tests/golden/gen_golden.py          writes tests/golden/NAME.json for every row of CASES

Needs Debian's python3-torch (made with 1.13); the tests need only the files. PyTorch runs in double precision, so that the numbers are
those of the mathematics and not of one order of summation; weights, images and learning rates are rounded to f32 first, as the
modules get them. Sizes and learning rates are such that noise of 1e-7 on weights and images changes the results by about 1e-6, and
only seldom moves a pixel over the kink of a relu (with 32x32 images and a rate of 0.02, ResNet-20 comes out different by 4 % of
a change in PyTorch's own f32). Tensors are stored as their change over the ten steps: its sum, its Euclidean norm, some values.
"""
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

STEPS, BATCH, CLASSES = 10, 8, 10
SAMPLES = 4
CASES = {
    "resnet8": dict(preset="resnet8", size=32, shortcut="A", lr=0.01, momentum=0.9, weight_decay=1e-4, nesterov=False),
    "resnet8-decay": dict(preset="resnet8", size=24, shortcut="B", lr=0.02, momentum=0.5, weight_decay=0.05, nesterov=False),
    "resnet20-nesterov": dict(preset="resnet20", size=16, shortcut="A", lr=0.005, momentum=0.9, weight_decay=1e-4, nesterov=True),
}


def mix(seed, n):
    """n 32-bit words of a stream; golden.c has the same arithmetic."""
    x = np.arange(n, dtype=np.uint64) * 2654435769 + np.uint64(seed) * np.uint64(40503)
    for shift, factor in ((15, 739982445), (12, 695872825), (17, 1)):
        x &= 0xFFFFFFFF
        x ^= x >> np.uint64(shift)
        x = x * np.uint64(factor)
    return x & 0xFFFFFFFF


def centred(seed, n, scale):
    """n floats in [-scale/2, scale/2), computed in f32."""
    unit = (mix(seed, n) >> np.uint64(8)).astype(np.float32) * np.float32(2**-24)
    return (unit - np.float32(0.5)) * np.float32(scale)


def name_seed(name):
    """FNV-1a."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 & 0xFFFFFFFF
    return seed


def initial(name, shape):
    n = int(np.prod(shape))
    if name.endswith("running_mean"):
        values = np.zeros(n, np.float32)
    elif name.endswith("running_var"):
        values = np.ones(n, np.float32)
    elif len(shape) == 2:
        values = centred(name_seed(name), n, 2 * np.sqrt(1 / shape[1]))
    elif len(shape) > 1:
        values = centred(name_seed(name), n, 2 * np.sqrt(6 / (n // shape[0])))
    else:
        values = centred(name_seed(name), n, 0.4)
        if name.endswith("weight"):
            values += np.float32(1)
    return values.reshape(shape)


def images(step, size):
    values = centred(1000 + step, BATCH * 3 * size * size, 3.4).reshape(BATCH, 3, size, size)
    labels = (mix(2000 + step, BATCH) * np.uint64(CLASSES)) >> np.uint64(32)
    return torch.from_numpy(values).double(), torch.from_numpy(labels.astype(np.int64))


class Block(nn.Module):
    def __init__(self, channels_in, channels, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.more = stride, channels - channels_in
        changes = stride != 1 or channels_in != channels
        if changes and shortcut == "B":
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def skip(self, x):
        if hasattr(self, "downsample"):
            return self.downsample(x)
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.skip(x))


class CifarResNet(nn.Module):
    """He et al. 2015, section 4.2."""

    def __init__(self, depth, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for stage in range(3):
            blocks = []
            for i in range((depth - 2) // 6):
                blocks.append(Block(channels, 16 << stage, 2 if stage > 0 and i == 0 else 1, shortcut))
                channels = 16 << stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def tensors(model):
    return {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}


def summary(name, change):
    flat = change.flatten().numpy()
    at = sorted({int(i) for i in mix(name_seed(name) ^ 1, SAMPLES) % np.uint64(flat.size)})
    return {"name": name, "count": flat.size, "sum": float(flat.sum()), "norm": float(np.sqrt((flat * flat).sum())),
            "at": at, "values": [float(flat[i]) for i in at]}


def f32(value):
    return float(np.float32(value))


def run(case):
    model = CifarResNet(int(case["preset"].removeprefix("resnet")), case["shortcut"]).double()
    start = {name: torch.from_numpy(initial(name, tuple(value.shape))).double() for name, value in tensors(model).items()}
    model.load_state_dict(start, strict=False)
    sgd = torch.optim.SGD(model.parameters(), lr=f32(case["lr"]), momentum=f32(case["momentum"]),
                          weight_decay=f32(case["weight_decay"]), nesterov=case["nesterov"])
    losses = []
    for step in range(STEPS):
        x, labels = images(step, case["size"])
        loss = nn.functional.cross_entropy(model(x), labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        x, labels = images(0, case["size"])
        logits = model(x)
        evaluation = {"loss": nn.functional.cross_entropy(logits, labels).item(), "softmax": torch.softmax(logits[:2], 1).tolist()}
    changes = [summary(name, value.detach() - start[name]) for name, value in tensors(model).items()]
    return {"made_by": f"gen_golden.py with PyTorch {torch.__version__}", **case, "batch": BATCH, "losses": losses,
            "evaluation": evaluation, "changes": changes}


def main():
    torch.set_num_threads(1)
    for name, case in CASES.items():
        document = run(case)
        rows = ",\n ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in document.items() if key != "changes")
        changes = ",\n  ".join(json.dumps(row) for row in document["changes"])
        path = Path(__file__).parent / f"{name}.json"
        path.write_text(f'{{{rows},\n "changes": [\n  {changes}]}}\n')
        print(path, document["losses"])


if __name__ == "__main__":
    sys.exit(main())
