/* The activations' loops, part of kernels_body.h. Exponentials are taken of what is not positive: nothing overflows, and the
 * tails, in which gradients vanish, keep their digits. */

/* x * factor + next */
INLINE void scale_add(vf *ret, const vf *x, float factor, const vf *next) {
    vf all = (vf){0} + factor;
    MULTIPLY_ADD(ret, x, &all, next);
}

/* value * x + next: a step of Horner's scheme. */
INLINE void horner(vf *value, const vf *x, float next) {
    vf last = (vf){0} + next;
    MULTIPLY_ADD(value, value, x, &last);
}

INLINE void choose(vf *ret, const vi *mask, const vf *yes, const vf *no) {
    *ret = (vf)((*mask & (vi)*yes) | (~*mask & (vi)*no));
}

INLINE void negative_size(vf *ret, const vf *x) {
    *ret = (vf)((vi)*x | INT32_MIN);
}

/* exp(x) = power * (1 + rest) for x <= 0; relative error below 1.5e-7. x = n ln 2 + r with |r| <= ln(2) / 2, ln 2 in two parts
 * (Cody and Waite, Software Manual for the Elementary Functions, 1980), and rest = exp(r) - 1 by Taylor's series to r^7, which
 * leaves out less than 6e-9. Below -87 it is exp(-87). */
INLINE void exp_parts(const vf *x, vf *ret_power, vf *ret_rest) {
    vf bottom = (vf){0} - 87.0f, large = (vf){0} + 0x1.8p23f, v, shifted, n, r;
    vi below = *x < bottom;
    choose(&v, &below, &bottom, x);
    scale_add(&shifted, &v, 1.44269504f, &large); /* the last bits are n: there is no room for a fraction */
    n = shifted - large;
    scale_add(&r, &n, -0.693359375f, &v);
    scale_add(&r, &n, 2.12194440e-4f, &r);
    v = (vf){0} + 1.0f / 5040;
    horner(&v, &r, 1.0f / 720);
    horner(&v, &r, 1.0f / 120);
    horner(&v, &r, 1.0f / 24);
    horner(&v, &r, 1.0f / 6);
    horner(&v, &r, 0.5f);
    v *= r;
    MULTIPLY_ADD(ret_rest, &v, &r, &r);
    *ret_power = (vf)(((vi)shifted + 127) << 23);
}

INLINE void exp_of(vf *x) {
    vf power, rest;
    exp_parts(x, &power, &rest);
    MULTIPLY_ADD(x, &power, &rest, &power);
}

/* exp(x) - 1 from the parts of exp(x). */
INLINE void expm1_of(const vf *power, const vf *rest, vf *ret) {
    vf without = *power - 1.0f;
    MULTIPLY_ADD(ret, power, rest, &without);
}

/* exp(-|x|) and the sigmoid of -|x| and |x|. */
INLINE void sigmoid_sides(const vf *x, vf *ret_low, vf *ret_high) {
    vf e;
    negative_size(&e, x);
    exp_of(&e);
    *ret_high = 1.0f / (1.0f + e);
    *ret_low = e * *ret_high;
}

/* s(x) and s(-x) = 1 - s(x). */
INLINE void sigmoids(const vf *x, vf *ret_s, vf *ret_other) {
    vf low, high;
    vi negative = *x < 0.0f;
    sigmoid_sides(x, &low, &high);
    choose(ret_s, &negative, &low, &high);
    choose(ret_other, &negative, &high, &low);
}

/* The distribution function and density of the standard normal distribution. Phi(-|x|) = exp(-x^2 / 2) t Q(t) / 2 with
 * t = 1 / (1 + |x| / (2 sqrt 2)): Hastings' form (Abramowitz and Stegun 7.1.26) with a longer polynomial, fitted to
 * exp(z^2) erfc(z), z = |x| / sqrt 2, for the least relative error (4.2e-8) on 0 <= z <= 9.4. */
INLINE void normal(const vf *x, vf *ret_phi, vf *ret_density) {
    static const float q[] = {-0.0588475205f, 0.283489734f, -0.484941334f, 0.275468141f, -0.0248231553f,
                              0.201918215f,   0.243299812f, 0.282348067f,  0.282087982f};
    vf size = (vf)((vi)*x & INT32_MAX), t = 1.0f / (1.0f + size * 0.353553391f), e = -0.5f * *x * *x;
    vf low = (vf){0} + q[0], high;
    vi negative = *x < 0.0f;
    exp_of(&e);
    for (size_t i = 1; i < sizeof q / sizeof q[0]; i++)
        horner(&low, &t, q[i]);
    low *= 0.5f * t * e;
    high = 1.0f - low;
    choose(ret_phi, &negative, &low, &high);
    *ret_density = 0.398942280f * e;
}

/* tanh |x| = (1 - E) / (1 + E), and 1 - E to all digits; E = exp(-2 |x|). */
INLINE void tanh_parts(const vf *x, vf *ret_tanh, vf *ret_e) {
    vf v, power, rest, less;
    negative_size(&v, x);
    v *= 2.0f;
    exp_parts(&v, &power, &rest);
    expm1_of(&power, &rest, &less);
    *ret_tanh = (vf)((vi)((0.0f - less) / (2.0f + less)) | ((vi)*x & INT32_MIN));
    MULTIPLY_ADD(ret_e, &power, &rest, &power);
}

static const float leaky_slope = 0.01f; /* PyTorch's default, as ELU's alpha of 1 */

INLINE void act_value(vf *x, enum spec_activation kind) {
    vf a, b, power;
    vi positive = *x > 0.0f;
    switch (kind) {
    case ACTIVATION_RELU:
        relu_of(x);
        break;
    case ACTIVATION_LEAKY_RELU:
        a = leaky_slope * *x;
        choose(x, &positive, x, &a);
        break;
    case ACTIVATION_ELU: /* Clevert et al. 2015 */
        negative_size(&b, x);
        exp_parts(&b, &power, &a);
        expm1_of(&power, &a, &a);
        choose(x, &positive, x, &a);
        break;
    case ACTIVATION_GELU: /* Hendrycks and Gimpel 2016, exact form */
        normal(x, &a, &b);
        *x *= a;
        break;
    case ACTIVATION_SILU: /* Elfwing et al. 2017 */
        sigmoids(x, &a, &b);
        *x *= a;
        break;
    case ACTIVATION_SIGMOID:
        sigmoids(x, x, &b);
        break;
    case ACTIVATION_TANH:
        tanh_parts(x, x, &b);
        break;
    case ACTIVATION_IDENTITY:
        break;
    }
}

/* g times the derivative at x. */
INLINE void act_slope(vf *g, const vf *x, enum spec_activation kind) {
    vf a, b;
    vi positive = *x > 0.0f;
    switch (kind) {
    case ACTIVATION_RELU:
        mask_by(g, x);
        break;
    case ACTIVATION_LEAKY_RELU:
        a = leaky_slope * *g;
        choose(g, &positive, g, &a);
        break;
    case ACTIVATION_ELU:
        negative_size(&a, x);
        exp_of(&a);
        a *= *g;
        choose(g, &positive, g, &a);
        break;
    case ACTIVATION_GELU:
        normal(x, &a, &b);
        *g *= a + *x * b;
        break;
    case ACTIVATION_SILU:
        sigmoids(x, &a, &b);
        *g *= a * (1.0f + *x * b);
        break;
    case ACTIVATION_SIGMOID:
        sigmoid_sides(x, &a, &b);
        *g *= a * b;
        break;
    case ACTIVATION_TANH:
        tanh_parts(x, &a, &b);
        a = 1.0f + b;
        *g *= 4.0f * b / (a * a);
        break;
    case ACTIVATION_IDENTITY:
        break;
    }
}

INLINE void act_loop(void *y, const void *x, size_t n, const vi *exist, bool bf16, enum spec_activation kind) {
    for (size_t i = 0; i < n / LANES; i++) {
        vf v;
        get(&v, x, i, bf16);
        act_value(&v, kind);
        v = (vf)((vi)v & *exist);
        put(y, i, bf16, &v);
    }
}

INLINE void act_back_loop(void *dst, const void *a, const void *b, const void *x, size_t n, bool bf16,
                          enum spec_activation kind) {
    for (size_t i = 0; i < n / LANES; i++) {
        vf g, v;
        get(&g, a, i, bf16);
        if (b) {
            get(&v, b, i, bf16);
            g += v;
        }
        get(&v, x, i, bf16);
        act_slope(&g, &v, kind);
        put(dst, i, bf16, &g);
    }
}

/* A loop of its own for each kind in either precision; the arguments are the loop and its own ones but the last two. */
#define ACT_CASE(KIND, LOOP, ...)           \
    case KIND:                              \
        if (bf16)                           \
            LOOP(__VA_ARGS__, true, KIND);  \
        else                                \
            LOOP(__VA_ARGS__, false, KIND); \
        break;
#define ACT_CASES(...)                           \
    ACT_CASE(ACTIVATION_RELU, __VA_ARGS__)       \
    ACT_CASE(ACTIVATION_LEAKY_RELU, __VA_ARGS__) \
    ACT_CASE(ACTIVATION_ELU, __VA_ARGS__)        \
    ACT_CASE(ACTIVATION_GELU, __VA_ARGS__)       \
    ACT_CASE(ACTIVATION_SILU, __VA_ARGS__)       \
    ACT_CASE(ACTIVATION_SIGMOID, __VA_ARGS__)    \
    ACT_CASE(ACTIVATION_TANH, __VA_ARGS__)       \
    ACT_CASE(ACTIVATION_IDENTITY, __VA_ARGS__)

static void act(void *y, const void *x, size_t n, int channels, bool bf16, enum spec_activation kind) {
    vi exist;
    for (int k = 0; k < LANES; k++)
        exist[k] = k < channels ? -1 : 0;
    switch (kind) { ACT_CASES(act_loop, y, x, n, &exist) }
}

static void act_back(void *dst, const void *a, const void *b, const void *x, size_t n, bool bf16, enum spec_activation kind) {
    switch (kind) { ACT_CASES(act_back_loop, dst, a, b, x, n) }
}
