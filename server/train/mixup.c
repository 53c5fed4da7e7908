/* Mixes the images of a batch in pairs: see batch.h. */
#include <math.h>

#include "common/rng.h"
#include "server/train/batch.h"

/* A number in (0, 1]: its logarithm is finite. */
static double unit_above_0(uint32_t word) {
    return ((double)word + 1) * 0x1p-32;
}

/* A number of the Gamma distribution with a shape of 1 or more: Marsaglia and Tsang, "A simple method for generating gamma
 * variables" (2000). The trials of two streams take turns with the counter; words 0 to 2 of a block are one trial. */
static double gamma_number(const struct augment *augment, uint32_t sample, uint32_t stream, double shape) {
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (uint32_t trial = 0;; trial++) {
        uint32_t words[4];
        rng_block(augment->seed, RNG_MIXUP, augment->epoch, sample, 2 * trial + stream, words);
        double x = (double)rng_normal(words[0], words[1]), v = 1 + c * x;
        if (v <= 0)
            continue;
        v = v * v * v;
        if (log(unit_above_0(words[2])) < x * x / 2 + d - d * v + d * log(v))
            return d * v;
    }
}

/* s = A / (A + B) with A and B from Gamma(mixup). Gamma(a) is Gamma(a + 1) U^(1/a), also for a below 1, where U^(1/a) can be
 * smaller than any double: so it is log A - log B that is computed, and max(s, 1 - s) is the logistic function of its size. The
 * Us are words 3 of the first two blocks. */
float mixup_share(const struct augment *augment, uint32_t sample) {
    double logs[2];
    uint32_t words[2][4];
    for (uint32_t stream = 0; stream < 2; stream++) {
        rng_block(augment->seed, RNG_MIXUP, augment->epoch, sample, stream, words[stream]);
        logs[stream] = log(gamma_number(augment, sample, stream, augment->mixup + 1));
    }
    double boost = log(unit_above_0(words[0][3])) - log(unit_above_0(words[1][3]));
    return (float)(1 / (1 + exp(-fabs(logs[0] - logs[1] + boost / augment->mixup))));
}

/* Each of the two becomes its share of itself and the rest of the other. */
static void mix_pair(float *a, float share_a, float *b, float share_b, size_t size) {
    for (size_t i = 0; i < size; i++) {
        float x = a[i], y = b[i];
        a[i] = share_a * x + (1 - share_a) * y;
        b[i] = share_b * y + (1 - share_b) * x;
    }
}

void mixup_targets(const struct augment *augment, const struct batch *batch) {
    for (int i = 0; i < batch->n; i++) {
        batch->shares[i] = mixup_share(augment, batch->samples[i]);
        batch->others[i] = batch->labels[batch->n - 1 - i];
    }
}

void mixup_images(const struct batch *batch, size_t size) {
    int n = batch->n;
    for (int i = 0; i < n / 2; i++) {
        int j = n - 1 - i;
        mix_pair(batch->images + (size_t)i * size, batch->shares[i], batch->images + (size_t)j * size, batch->shares[j], size);
    }
}
