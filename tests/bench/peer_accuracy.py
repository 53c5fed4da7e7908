#!/usr/bin/python3
"""The peer's accuracy: PyTorch trains ResNet-20 on Fashion-MNIST with Residuum's default recipe.

    peer_accuracy.py EPOCHS SEED f32|bf16 THREADS [PRESET]

Images padded to 32x32, normalized by the training set's mean and deviation, pad-4 crop and flip, batches of 128, SGD with momentum
0.9 and weight decay 1e-4, one-cycle to 0.1, He initialization. Prints a line per epoch on standard error and, at the end,
{"epochs", "seed", "precision", "accuracies", "losses", "seconds", "name"} on standard output.
"""

import gzip
import json
import os
import pathlib
import sys
import time

import numpy
import torch
from peer_torch import build
from torch import nn
from torch.nn import functional

FOLDER = pathlib.Path(os.environ.get("RESIDUUM_DATASETS", "/usr/share/datasets")) / "fashion-mnist"
PAD, CROP, BATCH, PEAK = 2, 4, 128, 0.1


def read(part):
    """Images as bytes, [n,1,32,32], and labels."""
    with gzip.open(FOLDER / f"{part}-images-idx3-ubyte.gz") as file:
        images = numpy.frombuffer(file.read(), numpy.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(FOLDER / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = numpy.frombuffer(file.read(), numpy.uint8, offset=8)
    padded = numpy.pad(images, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
    return torch.from_numpy(padded), torch.from_numpy(labels.astype(numpy.int64))


def augment(images, generator):
    """torchvision's RandomCrop(32, padding=4) and RandomHorizontalFlip, image by image."""
    side = images.shape[-1]
    padded = functional.pad(images, (CROP, CROP, CROP, CROP))
    shifts = torch.randint(0, 2 * CROP + 1, (len(images), 2), generator=generator)
    flips = torch.rand(len(images), generator=generator) < 0.5
    out = torch.empty_like(images)
    for i, (y, x) in enumerate(shifts.tolist()):
        crop = padded[i, :, y : y + side, x : x + side]
        out[i] = crop.flip(-1) if flips[i] else crop
    return out


def initialize(model):
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Training:
    def __init__(self, preset, epochs, seed, bf16):
        torch.manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.bf16 = bf16
        self.images, self.labels = read("train")
        self.test_images, self.test_labels = read("t10k")
        self.model = build(preset)
        self.model[0] = nn.Conv2d(1, self.model[0].out_channels, 3, 1, 1, bias=False)
        initialize(self.model)
        self.model = self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), PEAK, momentum=0.9, weight_decay=1e-4)
        steps = epochs * -(-len(self.labels) // BATCH)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, PEAK, total_steps=steps, cycle_momentum=False)
        fractions = self.images.double() / 255
        self.mean, self.deviation = fractions.mean().item(), fractions.std(unbiased=False).item()

    def logits(self, images):
        normal = (images.float() / 255 - self.mean) / self.deviation
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return self.model(normal.to(memory_format=torch.channels_last)).float()

    def train_epoch(self):
        self.model.train()
        for chosen in torch.randperm(len(self.labels), generator=self.generator).split(BATCH):
            loss = functional.cross_entropy(self.logits(augment(self.images[chosen], self.generator)), self.labels[chosen])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()

    @torch.no_grad()
    def test(self):
        self.model.eval()
        logits = torch.cat([self.logits(images) for images in self.test_images.split(500)])
        loss = functional.cross_entropy(logits, self.test_labels).item()
        return (logits.argmax(1) == self.test_labels).double().mean().item(), loss


def main():
    epochs, seed, precision, threads, preset = (sys.argv + ["resnet20"])[1:6]
    torch.set_num_threads(int(threads))
    training = Training(preset, int(epochs), int(seed), precision == "bf16")
    accuracies, losses, start = [], [], time.monotonic()
    for epoch in range(int(epochs)):
        training.train_epoch()
        accuracy, loss = training.test()
        accuracies.append(accuracy)
        losses.append(loss)
        print(f"PyTorch, seed {seed}: epoch {epoch + 1}: test accuracy {accuracy:.4f}", file=sys.stderr, flush=True)
    result = {"epochs": int(epochs), "seed": int(seed), "precision": precision, "accuracies": accuracies, "losses": losses}
    print(json.dumps(result | {"seconds": time.monotonic() - start, "name": f"PyTorch {torch.__version__}"}))


if __name__ == "__main__":
    main()
