/* Kernels of networks that compute with integers alone. C99, no heap, no floating point.
 *
 * Right shifts of negative numbers are arithmetic, as in every compiler for the processors that
 * this is for. Activations are bytes; signed ones are read as unsigned ones with the sign bit
 * flipped, and the biases account for it.
 */
#include <stdint.h>
#include <string.h>

#if defined(__ARM_FEATURE_SIMD32) && __ARM_FEATURE_SIMD32
#include <arm_acle.h>
#define EW_SIMD32 1
#endif

typedef struct {
    int32_t height, width, channels;             /* of the input */
    int32_t out_height, out_width, out_channels;
    int32_t kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t pad_top, pad_left;
    int32_t dilation_height, dilation_width;
} ew_window;

typedef struct {
    ew_window window;
    int32_t groups;
    int32_t finer_by;
    int32_t zero_point;     /* of the input, as an unsigned byte */
    int32_t flip;           /* 128 for signed inputs, else 0 */
    int32_t out_zero_point;
    int32_t low, high;
    int32_t out_bytes;      /* of a result: 1 or 4 */
    const void *weight;     /* rows of an output's weights, or for depthwise (tap, output) */
    const int32_t *bias;    /* without the input's zero point */
    const int32_t *factors;
    const uint8_t *shifts;
} ew_convolution;

/* sum * factor / 2^shift, rounded half to even; |sum * factor| < 2^62. */
static inline int32_t ew_scale(int32_t sum, int32_t factor, int32_t shift) {
    const int64_t product = (int64_t)sum * factor;
    if (shift > 32) { /* only the upper half is shifted */
        const int32_t places = shift - 32;
        const int32_t upper = (int32_t)(product >> 32) + (1 << (places - 1));
        const int32_t rounded = upper >> places;
        const int is_half = (uint32_t)product == 0 && (upper & ((1 << places) - 1)) == 0;
        return is_half ? rounded & ~1 : rounded;
    }
    return (int32_t)((product + (((int64_t)1 << (shift - 1)) - 1) + ((product >> shift) & 1))
                     >> shift);
}

static inline int32_t ew_scale_wide(int64_t sum, int32_t shift) {
    return (int32_t)((sum + (((int64_t)1 << (shift - 1)) - 1) + ((sum >> shift) & 1)) >> shift);
}

static inline int32_t ew_clamp(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

static inline void ew_store(void *results, int32_t index, int32_t bytes, int32_t value) {
    if (bytes == 1) {
        ((uint8_t *)results)[index] = (uint8_t)value;
    } else {
        ((int32_t *)results)[index] = value;
    }
}

static inline void ew_finish(const ew_convolution *c, void *results, int32_t index,
                             int32_t channel, int32_t sum) {
    const int32_t scaled = ew_scale(sum * c->finer_by + c->bias[channel], c->factors[channel],
                                    c->shifts[channel]);
    ew_store(results, index, c->out_bytes,
             ew_clamp(scaled + c->out_zero_point, c->low, c->high));
}

#ifdef EW_SIMD32
static inline uint32_t ew_word(const void *bytes) {
    uint32_t word;
    memcpy(&word, bytes, 4);
    return word;
}

/* Bytes 1 and 3 as two halves; compilers do not combine __ror with the extension. */
static inline int16x2_t ew_odd_unsigned(uint32_t word) {
    int16x2_t halves;
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(halves) : "r"(word));
    return halves;
}

static inline int16x2_t ew_odd_signed(uint32_t word) {
    int16x2_t halves;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(halves) : "r"(word));
    return halves;
}
#endif

/* Products of two rows of inputs with two rows of 8-bit weights. */
static inline void ew_dot_2x2(const uint8_t *x0, const uint8_t *x1, const int8_t *w0,
                              const int8_t *w1, int32_t count, int32_t sums[4]) {
    int32_t s00 = 0, s01 = 0, s10 = 0, s11 = 0;
    const uint8_t *const end = x0 + count;
#ifdef EW_SIMD32
    const uint8_t *const words = x0 + (count & ~3);
    while (x0 < words) {
        const uint32_t a0 = ew_word(x0), a1 = ew_word(x1);
        const uint32_t b0 = ew_word(w0), b1 = ew_word(w1);
        const int16x2_t a0e = (int16x2_t)__uxtb16(a0), a0o = ew_odd_unsigned(a0);
        const int16x2_t a1e = (int16x2_t)__uxtb16(a1), a1o = ew_odd_unsigned(a1);
        const int16x2_t b0e = __sxtb16((int32_t)b0), b0o = ew_odd_signed(b0);
        const int16x2_t b1e = __sxtb16((int32_t)b1), b1o = ew_odd_signed(b1);
        s00 = __smlad(a0o, b0o, __smlad(a0e, b0e, s00));
        s01 = __smlad(a0o, b1o, __smlad(a0e, b1e, s01));
        s10 = __smlad(a1o, b0o, __smlad(a1e, b0e, s10));
        s11 = __smlad(a1o, b1o, __smlad(a1e, b1e, s11));
        x0 += 4;
        x1 += 4;
        w0 += 4;
        w1 += 4;
    }
#else
    const uint8_t *const pairs = x0 + (count & ~1);
    while (x0 < pairs) {
        const int32_t a0 = x0[0], a1 = x1[0], b0 = w0[0], b1 = w1[0];
        const int32_t c0 = x0[1], c1 = x1[1], d0 = w0[1], d1 = w1[1];
        s00 += a0 * b0;
        s01 += a0 * b1;
        s10 += a1 * b0;
        s11 += a1 * b1;
        s00 += c0 * d0;
        s01 += c0 * d1;
        s10 += c1 * d0;
        s11 += c1 * d1;
        x0 += 2;
        x1 += 2;
        w0 += 2;
        w1 += 2;
    }
#endif
    while (x0 < end) {
        s00 += *x0 * *w0;
        s01 += *x0++ * *w1;
        s10 += *x1 * *w0++;
        s11 += *x1++ * *w1++;
    }
    sums[0] = s00;
    sums[1] = s01;
    sums[2] = s10;
    sums[3] = s11;
}

static inline int32_t ew_dot_8bit(const uint8_t *x, const int8_t *w, int32_t count) {
    int32_t sum = 0;
    int32_t k = 0;
    for (; k + 4 <= count; k += 4) {
        sum += x[k] * w[k] + x[k + 1] * w[k + 1] + x[k + 2] * w[k + 2] + x[k + 3] * w[k + 3];
    }
    for (; k < count; k++) {
        sum += x[k] * w[k];
    }
    return sum;
}

/* Weights of 4 bits, two per byte, the first in the low half; rows begin at a byte. */
static inline int32_t ew_dot_4bit(const uint8_t *x, const uint8_t *w, int32_t count) {
    int32_t sum = 0;
    int32_t k = 0;
    for (; k + 2 <= count; k += 2) {
        const int32_t pair = (int8_t)w[k >> 1];
        sum += x[k] * ((int32_t)((uint32_t)pair << 28) >> 28) + x[k + 1] * (pair >> 4);
    }
    if (k < count) {
        sum += x[k] * ((int32_t)((uint32_t)w[k >> 1] << 28) >> 28);
    }
    return sum;
}

/* Weights of 2 bits, four per byte, the first in the lowest bits. */
static inline int32_t ew_dot_2bit(const uint8_t *x, const uint8_t *w, int32_t count) {
    int32_t sum = 0;
    int32_t k = 0;
    for (; k + 4 <= count; k += 4) {
        const uint32_t four = (uint32_t)w[k >> 2] << 24;
        sum += x[k] * ((int32_t)(four << 6) >> 30) + x[k + 1] * ((int32_t)(four << 4) >> 30)
             + x[k + 2] * ((int32_t)(four << 2) >> 30) + x[k + 3] * ((int32_t)four >> 30);
    }
    for (; k < count; k++) {
        sum += x[k] * ((int32_t)((uint32_t)w[k >> 2] << (30 - 2 * (k & 3))) >> 30);
    }
    return sum;
}

/* Weights of -1 and 1, eight per byte, 1 as a set bit: twice the sum of the inputs at set bits,
 * less the sum of all. */
static inline int32_t ew_dot_1bit(const uint8_t *x, const uint8_t *w, int32_t count,
                                  int32_t all) {
    int32_t sum = 0;
    int32_t k = 0;
    for (; k + 8 <= count; k += 8) {
        const uint32_t bits = w[k >> 3];
        sum += (x[k] & -(int32_t)(bits & 1)) + (x[k + 1] & -(int32_t)(bits >> 1 & 1))
             + (x[k + 2] & -(int32_t)(bits >> 2 & 1)) + (x[k + 3] & -(int32_t)(bits >> 3 & 1))
             + (x[k + 4] & -(int32_t)(bits >> 4 & 1)) + (x[k + 5] & -(int32_t)(bits >> 5 & 1))
             + (x[k + 6] & -(int32_t)(bits >> 6 & 1)) + (x[k + 7] & -(int32_t)(bits >> 7));
    }
    for (; k < count; k++) {
        sum += x[k] & -(int32_t)(w[k >> 3] >> (k & 7) & 1);
    }
    return 2 * sum - all;
}

/* Copy what an output place reads, for one group, one tap after the other; padding becomes the
 * zero point. */
static inline void ew_gather(const ew_convolution *c, const uint8_t *x, int32_t row, int32_t column,
                      int32_t group, uint8_t *patch) {
    const ew_window *g = &c->window;
    const int32_t channels = g->channels / c->groups;
    const uint8_t flip = (uint8_t)c->flip;
    for (int32_t ky = 0; ky < g->kernel_height; ky++) {
        const int32_t y = row * g->stride_height - g->pad_top + ky * g->dilation_height;
        for (int32_t kx = 0; kx < g->kernel_width; kx++) {
            const int32_t z = column * g->stride_width - g->pad_left + kx * g->dilation_width;
            if (y < 0 || y >= g->height || z < 0 || z >= g->width) {
                memset(patch, c->zero_point, (size_t)channels);
            } else {
                const uint8_t *from = x + ((y * g->width + z) * g->channels + group * channels);
                if (flip) {
                    for (int32_t i = 0; i < channels; i++) {
                        patch[i] = from[i] ^ flip;
                    }
                } else {
                    memcpy(patch, from, (size_t)channels);
                }
            }
            patch += channels;
        }
    }
}

/* What an output place reads: in the input itself if that is one contiguous run of bytes. */
static inline const uint8_t *ew_patch(const ew_convolution *c, const uint8_t *x, int32_t place,
                               int32_t group, uint8_t *patch) {
    const ew_window *g = &c->window;
    const int32_t row = place / g->out_width, column = place % g->out_width;
    const int32_t y = row * g->stride_height - g->pad_top;
    const int32_t z = column * g->stride_width - g->pad_left;
    if (g->kernel_height == 1 && g->kernel_width == 1 && c->groups == 1 && !c->flip && y >= 0
        && y < g->height && z >= 0 && z < g->width) {
        return x + (y * g->width + z) * g->channels;
    }
    ew_gather(c, x, row, column, group, patch);
    return patch;
}

/* Weights of 8 bits; `patches` has room for what two output places read. */
static inline void ew_convolve_8bit(const ew_convolution *c, const uint8_t *x, void *results,
                             uint8_t *patches) {
    const ew_window *g = &c->window;
    const int32_t count = g->kernel_height * g->kernel_width * (g->channels / c->groups);
    const int32_t outputs = g->out_channels / c->groups;
    const int32_t places = g->out_height * g->out_width;
    for (int32_t place = 0; place < places; place += 2) {
        const int32_t second = place + 1 < places ? place + 1 : place;
        for (int32_t group = 0; group < c->groups; group++) {
            const uint8_t *x0 = ew_patch(c, x, place, group, patches);
            const uint8_t *x1 = ew_patch(c, x, second, group, patches + count);
            const int8_t *w = (const int8_t *)c->weight + group * outputs * count;
            int32_t channel = group * outputs;
            const int32_t end = channel + outputs;
            for (; channel + 2 <= end; channel += 2, w += 2 * count) {
                int32_t sums[4];
                ew_dot_2x2(x0, x1, w, w + count, count, sums);
                ew_finish(c, results, place * g->out_channels + channel, channel, sums[0]);
                ew_finish(c, results, place * g->out_channels + channel + 1, channel + 1, sums[1]);
                ew_finish(c, results, second * g->out_channels + channel, channel, sums[2]);
                ew_finish(c, results, second * g->out_channels + channel + 1, channel + 1,
                          sums[3]);
            }
            if (channel < end) {
                ew_finish(c, results, place * g->out_channels + channel, channel,
                          ew_dot_8bit(x0, w, count));
                ew_finish(c, results, second * g->out_channels + channel, channel,
                          ew_dot_8bit(x1, w, count));
            }
        }
    }
}

/* Packed weights of 4, 2 or 1 bits; `patch` has room for what one output place reads. */
#define EW_CONVOLVE_PACKED(BITS, DOT)                                                             \
    static inline void ew_convolve_##BITS##bit(const ew_convolution *c, const uint8_t *x,         \
                                               void *results, uint8_t *patch) {                  \
        const ew_window *g = &c->window;                                                          \
        const int32_t count = g->kernel_height * g->kernel_width * (g->channels / c->groups);     \
        const int32_t row_bytes = (count * BITS + 7) / 8;                                         \
        const int32_t outputs = g->out_channels / c->groups;                                      \
        for (int32_t place = 0; place < g->out_height * g->out_width; place++) {                  \
            for (int32_t group = 0; group < c->groups; group++) {                                 \
                const uint8_t *read = ew_patch(c, x, place, group, patch);                        \
                int32_t all = 0;                                                                  \
                for (int32_t k = 0; BITS == 1 && k < count; k++) {                                \
                    all += read[k];                                                               \
                }                                                                                 \
                for (int32_t o = group * outputs; o < (group + 1) * outputs; o++) {               \
                    const uint8_t *w = (const uint8_t *)c->weight + o * row_bytes;                \
                    ew_finish(c, results, place * g->out_channels + o, o, DOT);                   \
                }                                                                                 \
                (void)all;                                                                        \
            }                                                                                     \
        }                                                                                         \
    }

EW_CONVOLVE_PACKED(4, ew_dot_4bit(read, w, count))
EW_CONVOLVE_PACKED(2, ew_dot_2bit(read, w, count))
EW_CONVOLVE_PACKED(1, ew_dot_1bit(read, w, count, all))

/* One weight per tap and output channel, which reads one input channel; weights of 8 bits. */
static inline void ew_convolve_depthwise(const ew_convolution *c, const uint8_t *x, void *results,
                                         uint8_t *zeros) {
    const ew_window *g = &c->window;
    const int32_t outputs = g->out_channels, each = outputs / g->channels;
    const int8_t *weight = (const int8_t *)c->weight;
    memset(zeros, c->zero_point ^ c->flip, (size_t)g->channels);
    for (int32_t row = 0; row < g->out_height; row++) {
        for (int32_t column = 0; column < g->out_width; column++) {
            const int32_t place = (row * g->out_width + column) * outputs;
            for (int32_t channel = 0; channel < outputs; channel += 4) {
                const int32_t lanes = outputs - channel < 4 ? outputs - channel : 4;
                int32_t sums[4] = {0, 0, 0, 0};
                const int8_t *w = weight + channel;
                for (int32_t ky = 0; ky < g->kernel_height; ky++) {
                    const int32_t y = row * g->stride_height - g->pad_top
                                    + ky * g->dilation_height;
                    for (int32_t kx = 0; kx < g->kernel_width; kx++, w += outputs) {
                        const int32_t z = column * g->stride_width - g->pad_left
                                        + kx * g->dilation_width;
                        const uint8_t *from =
                            y < 0 || y >= g->height || z < 0 || z >= g->width
                                ? zeros : x + (y * g->width + z) * g->channels;
                        if (each == 1 && lanes == 4 && !c->flip) {
                            sums[0] += from[channel] * w[0];
                            sums[1] += from[channel + 1] * w[1];
                            sums[2] += from[channel + 2] * w[2];
                            sums[3] += from[channel + 3] * w[3];
                        } else {
                            for (int32_t i = 0; i < lanes; i++) {
                                sums[i] += (from[(channel + i) / each] ^ c->flip) * w[i];
                            }
                        }
                    }
                }
                for (int32_t i = 0; i < lanes; i++) {
                    ew_finish(c, results, place + channel + i, channel + i, sums[i]);
                }
            }
        }
    }
}

typedef struct {
    int32_t size, repeat;           /* elements of the first operand, and of the second */
    int32_t first_zero, second_zero; /* zero points */
    int32_t first_factor, second_factor, shift;
    int32_t out_zero_point, low, high, out_bytes;
} ew_pair;

static inline int32_t ew_read(const void *bytes, int32_t index, int32_t is_signed) {
    return is_signed ? ((const int8_t *)bytes)[index] : ((const uint8_t *)bytes)[index];
}

static inline void ew_add(const ew_pair *p, const void *first, int32_t first_signed,
                          const void *second, int32_t second_signed, void *results) {
    for (int32_t i = 0, j = 0; i < p->size; i++, j = j + 1 < p->repeat ? j + 1 : 0) {
        const int64_t sum =
            (int64_t)(ew_read(first, i, first_signed) - p->first_zero) * p->first_factor
            + (int64_t)(ew_read(second, j, second_signed) - p->second_zero) * p->second_factor;
        ew_store(results, i, p->out_bytes,
                 ew_clamp(ew_scale_wide(sum, p->shift) + p->out_zero_point, p->low, p->high));
    }
}

static inline void ew_multiply(const ew_pair *p, const void *first, int32_t first_signed,
                               const void *second, int32_t second_signed, void *results) {
    for (int32_t i = 0, j = 0; i < p->size; i++, j = j + 1 < p->repeat ? j + 1 : 0) {
        const int32_t product = (ew_read(first, i, first_signed) - p->first_zero)
                              * (ew_read(second, j, second_signed) - p->second_zero);
        ew_store(results, i, p->out_bytes,
                 ew_clamp(ew_scale(product, p->first_factor, p->shift) + p->out_zero_point,
                          p->low, p->high));
    }
}

static inline void ew_look_up(const uint8_t *x, int32_t size, uint8_t flip, const uint8_t *table,
                              uint8_t *results) {
    for (int32_t i = 0; i < size; i++) {
        results[i] = table[x[i] ^ flip];
    }
}

static inline void ew_look_up_wide(const uint8_t *x, int32_t size, uint8_t flip,
                                   const int32_t *table, int32_t *results) {
    for (int32_t i = 0; i < size; i++) {
        results[i] = table[x[i] ^ flip];
    }
}

typedef struct {
    ew_window window;
    int32_t zero_point, out_zero_point, low, high, out_bytes;
    int32_t varies;              /* 1: a factor per place; 0: one for all */
    const int32_t *factors;
    const uint8_t *shifts;
} ew_average_pool;

#define EW_CHANNELS 16 /* channels that are averaged at once */

/* Add an input place to the sums of some channels. */
static inline void ew_accumulate(const void *x, int32_t index, int32_t is_signed, int32_t count,
                                 int32_t zero_point, int32_t sums[EW_CHANNELS]) {
    if (is_signed) {
        const int8_t *from = (const int8_t *)x + index;
        for (int32_t i = 0; i < count; i++) {
            sums[i] += from[i] - zero_point;
        }
    } else if (count == EW_CHANNELS) {
        const uint8_t *from = (const uint8_t *)x + index;
        for (int32_t i = 0; i < EW_CHANNELS; i++) {
            sums[i] += from[i] - zero_point;
        }
    } else {
        const uint8_t *from = (const uint8_t *)x + index;
        for (int32_t i = 0; i < count; i++) {
            sums[i] += from[i] - zero_point;
        }
    }
}

static inline void ew_average(const ew_average_pool *a, const void *x, int32_t is_signed,
                              void *results) {
    const ew_window *g = &a->window;
    for (int32_t place = 0; place < g->out_height * g->out_width; place++) {
        const int32_t top = place / g->out_width * g->stride_height - g->pad_top;
        const int32_t left = place % g->out_width * g->stride_width - g->pad_left;
        const int32_t which = place * a->varies;
        for (int32_t first = 0; first < g->channels; first += EW_CHANNELS) {
            const int32_t rest = g->channels - first;
            const int32_t count = rest < EW_CHANNELS ? rest : EW_CHANNELS;
            int32_t sums[EW_CHANNELS] = {0};
            for (int32_t ky = 0; ky < g->kernel_height; ky++) {
                const int32_t y = top + ky * g->dilation_height;
                for (int32_t kx = 0; kx < g->kernel_width && y >= 0 && y < g->height; kx++) {
                    const int32_t z = left + kx * g->dilation_width;
                    if (z >= 0 && z < g->width) {
                        ew_accumulate(x, (y * g->width + z) * g->channels + first, is_signed,
                                      count, a->zero_point, sums);
                    }
                }
            }
            for (int32_t i = 0; i < count; i++) {
                const int32_t scaled = ew_scale(sums[i], a->factors[which], a->shifts[which]);
                ew_store(results, place * g->channels + first + i, a->out_bytes,
                         ew_clamp(scaled + a->out_zero_point, a->low, a->high));
            }
        }
    }
}

static inline void ew_maximum(const ew_window *g, const void *x, int32_t is_signed,
                              uint8_t *results) {
    for (int32_t row = 0; row < g->out_height; row++) {
        for (int32_t column = 0; column < g->out_width; column++) {
            for (int32_t channel = 0; channel < g->channels; channel++) {
                int32_t found = -256;
                for (int32_t ky = 0; ky < g->kernel_height; ky++) {
                    const int32_t y = row * g->stride_height - g->pad_top
                                    + ky * g->dilation_height;
                    for (int32_t kx = 0; kx < g->kernel_width && y >= 0 && y < g->height; kx++) {
                        const int32_t z = column * g->stride_width - g->pad_left
                                        + kx * g->dilation_width;
                        if (z >= 0 && z < g->width) {
                            const int32_t value = ew_read(
                                x, (y * g->width + z) * g->channels + channel, is_signed);
                            found = value > found ? value : found;
                        }
                    }
                }
                results[(row * g->out_width + column) * g->channels + channel] = (uint8_t)found;
            }
        }
    }
}
