"""Weights, images and labels of the golden tests, made by a formula that formula.c has as well."""
import numpy as np
import torch


def mix(seed, n):
    """n 32-bit words of a stream."""
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
    elif len(shape) == 4:
        values = centred(name_seed(name), n, 2 * np.sqrt(6 / (n / shape[0])))
    else:
        values = centred(name_seed(name), n, 0.4) + (1 if name.endswith("weight") else 0)
    return torch.from_numpy(values.astype(np.float32).reshape(shape)).double()


def images(step, batch, shape):
    return torch.from_numpy(centred(1000 + step, batch * int(np.prod(shape)), 3.4).reshape(batch, *shape)).double()


def labels_of(seed, batch, classes):
    return torch.from_numpy((mix(seed, batch) * np.uint64(classes) >> np.uint64(32)).astype(np.int64))


def labels(step, batch, classes):
    return labels_of(2000 + step, batch, classes)


def targets(step, batch, classes, mixup):
    """Probabilities of the classes: one-hot labels, with mixup two of them by their shares."""
    onehot = torch.nn.functional.one_hot(labels(step, batch, classes), classes).double()
    if not mixup:
        return onehot
    others = torch.nn.functional.one_hot(labels_of(3000 + step, batch, classes), classes).double()
    share = torch.from_numpy(centred(4000 + step, batch, 0.5) + np.float32(0.75)).double()[:, None]
    return share * onehot + (1 - share) * others
