/* Kernels for x86-64 with AVX-512 and VNNI. Products are scaled in double precision, which is exact:
 * they have at most 53 bits. So the results are those of the portable kernels, bit for bit.
 */
#include <immintrin.h>

#define EW_LANES 16      /* output channels of a block */
#define EW_PLACES 16     /* output places whose inputs are copied at once */
#define EW_TAPS 128      /* the most taps of a depthwise kernel, whole groups of 4 */

typedef struct {
    ew_window window;
    int32_t finer_by;
    int32_t zero_point;     /* of the input */
    int32_t out_zero_point;
    int32_t low, high;
    int32_t out_bytes;      /* of a result: 1 or 4 */
    const int8_t *weight;   /* (block of outputs, row of the kernel, 4 inputs, output, input) */
    const int32_t *bias;    /* without the input's zero point, whole blocks */
    const double *scales;   /* whole blocks */
} ew_wide_convolution;

/* How the input places of a row of outputs lie in memory. */
typedef struct {
    int32_t place_step;     /* bytes from one output place to the next */
    int32_t row_step;       /* bytes from one row of the kernel to the next */
    int32_t rows;           /* rows of the kernel */
    int32_t words;          /* groups of 4 inputs per row of the kernel */
} ew_reads;

/* The lanes that are left of a block. */
static inline __mmask16 ew_wide_mask(int32_t left) {
    return (__mmask16)(left >= EW_LANES ? 0xFFFF : (1 << left) - 1);
}

/* Rows and columns that all windows together read, padding included. */
static inline int32_t ew_wide_height(const ew_window *g) {
    return (g->out_height - 1) * g->stride_height + (g->kernel_height - 1) * g->dilation_height + 1;
}

static inline int32_t ew_wide_width(const ew_window *g) {
    return (g->out_width - 1) * g->stride_width + (g->kernel_width - 1) * g->dilation_width + 1;
}

static inline __m512i ew_wide_round(__m512d low, __m512d high) {
    const __m256i first = _mm512_cvt_roundpd_epi32(low, _MM_FROUND_TO_NEAREST_INT
                                                            | _MM_FROUND_NO_EXC);
    const __m256i second = _mm512_cvt_roundpd_epi32(high, _MM_FROUND_TO_NEAREST_INT
                                                              | _MM_FROUND_NO_EXC);
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}

static inline __m512i ew_wide_scale(__m512i sums, const double *scales) {
    const __m512d low = _mm512_cvtepi32_pd(_mm512_castsi512_si256(sums));
    const __m512d high = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(sums, 1));
    return ew_wide_round(_mm512_mul_pd(low, _mm512_loadu_pd(scales)),
                         _mm512_mul_pd(high, _mm512_loadu_pd(scales + 8)));
}

static inline void ew_wide_store(__m512i values, int32_t zero_point, int32_t low, int32_t high,
                                 int32_t bytes, void *results, int32_t index, __mmask16 mask) {
    values = _mm512_add_epi32(values, _mm512_set1_epi32(zero_point));
    values = _mm512_max_epi32(values, _mm512_set1_epi32(low));
    values = _mm512_min_epi32(values, _mm512_set1_epi32(high));
    if (bytes == 1) {
        _mm_mask_storeu_epi8((uint8_t *)results + index, mask, _mm512_cvtepi32_epi8(values));
    } else {
        _mm512_mask_storeu_epi32((int32_t *)results + index, mask, values);
    }
}

static inline void ew_wide_finish(const ew_wide_convolution *c, __m512i sums, int32_t block,
                                  void *results, int32_t place) {
    const int32_t channel = block * EW_LANES;
    const __mmask16 mask = ew_wide_mask(c->window.out_channels - channel);
    if (c->finer_by > 1) {
        sums = _mm512_mullo_epi32(sums, _mm512_set1_epi32(c->finer_by));
    }
    sums = _mm512_add_epi32(sums, _mm512_loadu_si512(c->bias + channel));
    ew_wide_store(ew_wide_scale(sums, c->scales + channel), c->out_zero_point, c->low, c->high,
                  c->out_bytes, results, place * c->window.out_channels + channel, mask);
}

static inline int32_t ew_four(const uint8_t *bytes) {
    int32_t word;
    memcpy(&word, bytes, 4);
    return word;
}

/* BLOCKS blocks of outputs at COUNT places. */
#define EW_WIDE_BLOCK(BLOCKS, COUNT)                                                              \
    static inline void ew_wide_block_##BLOCKS##x##COUNT(const ew_wide_convolution *c,             \
                                                        const ew_reads *r, const uint8_t *x,      \
                                                        int32_t block, void *results,             \
                                                        int32_t place) {                          \
        __m512i sums[BLOCKS][COUNT];                                                              \
        for (int32_t b = 0; b < BLOCKS; b++) {                                                    \
            for (int32_t p = 0; p < COUNT; p++) {                                                 \
                sums[b][p] = _mm512_setzero_si512();                                              \
            }                                                                                     \
        }                                                                                         \
        const int32_t block_bytes = r->rows * r->words * 64;                                      \
        const int8_t *w = c->weight + block * block_bytes;                                        \
        for (int32_t row = 0; row < r->rows; row++) {                                             \
            const uint8_t *from = x + row * r->row_step;                                          \
            for (int32_t word = 0; word < r->words; word++, w += 64) {                            \
                __m512i weights[BLOCKS];                                                          \
                for (int32_t b = 0; b < BLOCKS; b++) {                                            \
                    weights[b] = _mm512_loadu_si512(w + b * block_bytes);                         \
                }                                                                                 \
                for (int32_t p = 0; p < COUNT; p++) {                                             \
                    const __m512i inputs = _mm512_set1_epi32(                                     \
                        ew_four(from + p * r->place_step + 4 * word));                            \
                    for (int32_t b = 0; b < BLOCKS; b++) {                                        \
                        sums[b][p] = _mm512_dpbusd_epi32(sums[b][p], inputs, weights[b]);         \
                    }                                                                             \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
        for (int32_t p = 0; p < COUNT; p++) {                                                     \
            for (int32_t b = 0; b < BLOCKS; b++) {                                                \
                ew_wide_finish(c, sums[b][p], block + b, results, place + p);                     \
            }                                                                                     \
        }                                                                                         \
    }

EW_WIDE_BLOCK(1, 16)
EW_WIDE_BLOCK(1, 8)
EW_WIDE_BLOCK(1, 4)
EW_WIDE_BLOCK(1, 1)
EW_WIDE_BLOCK(2, 8)
EW_WIDE_BLOCK(2, 4)
EW_WIDE_BLOCK(2, 1)

/* Output places whose inputs lie at equal distances. */
static inline void ew_wide_row(const ew_wide_convolution *c, const ew_reads *r, const uint8_t *x,
                               void *results, int32_t place, int32_t count) {
    const int32_t blocks = (c->window.out_channels + EW_LANES - 1) / EW_LANES;
    const int32_t step = r->place_step;
    int32_t block = 0;
    for (; block + 2 <= blocks; block += 2) {
        int32_t done = 0;
        for (; done + 8 <= count; done += 8) {
            ew_wide_block_2x8(c, r, x + done * step, block, results, place + done);
        }
        for (; done + 4 <= count; done += 4) {
            ew_wide_block_2x4(c, r, x + done * step, block, results, place + done);
        }
        for (; done < count; done++) {
            ew_wide_block_2x1(c, r, x + done * step, block, results, place + done);
        }
    }
    for (; block < blocks; block++) {
        int32_t done = 0;
        for (; done + 16 <= count; done += 16) {
            ew_wide_block_1x16(c, r, x + done * step, block, results, place + done);
        }
        for (; done + 8 <= count; done += 8) {
            ew_wide_block_1x8(c, r, x + done * step, block, results, place + done);
        }
        for (; done + 4 <= count; done += 4) {
            ew_wide_block_1x4(c, r, x + done * step, block, results, place + done);
        }
        for (; done < count; done++) {
            ew_wide_block_1x1(c, r, x + done * step, block, results, place + done);
        }
    }
}

/* Copy an image into one with its padding. */
static inline void ew_wide_pad(const ew_window *g, int32_t zero_point, const uint8_t *x,
                               int32_t height, int32_t width, uint8_t *padded) {
    const int32_t row_bytes = width * g->channels;
    const int32_t padding = g->pad_left < width ? g->pad_left : width;
    const int32_t left = padding * g->channels;
    const int32_t kept = (g->width < width - padding ? g->width : width - padding) * g->channels;
    for (int32_t row = 0; row < height; row++) {
        const int32_t from = row - g->pad_top;
        uint8_t *to = padded + row * row_bytes;
        if (from < 0 || from >= g->height) {
            memset(to, zero_point, (size_t)row_bytes);
            continue;
        }
        memset(to, zero_point, (size_t)left);
        memcpy(to + left, x + from * g->width * g->channels, (size_t)kept);
        memset(to + left + kept, zero_point, (size_t)(row_bytes - left - kept));
    }
}

/* Inputs of 8 bits without sign, and one group; rows of the kernel are whole words. */
static inline void ew_wide_convolve(const ew_wide_convolution *c, const uint8_t *x, void *results,
                                    uint8_t *padded) {
    const ew_window *g = &c->window;
    const int32_t height = ew_wide_height(g), width = ew_wide_width(g);
    const uint8_t *image = x;
    int32_t row_bytes = g->width * g->channels;
    if (padded) {
        ew_wide_pad(g, c->zero_point, x, height, width, padded);
        image = padded;
        row_bytes = width * g->channels;
    }
    const ew_reads reads = {g->stride_width * g->channels, g->dilation_height * row_bytes,
                            g->kernel_height, g->kernel_width * g->channels / 4};
    for (int32_t row = 0; row < g->out_height; row++) {
        ew_wide_row(c, &reads, image + row * g->stride_height * row_bytes, results,
                    row * g->out_width, g->out_width);
    }
}

/* The same for kernels whose rows are no whole words: what each place reads is copied first.
 * `memory` has room for the image with its padding, and behind it for the inputs of some places. */
static inline void ew_wide_convolve_gathered(const ew_wide_convolution *c, const uint8_t *x,
                                             void *results, uint8_t *memory) {
    const ew_window *g = &c->window;
    const int32_t height = ew_wide_height(g), width = ew_wide_width(g);
    const int32_t count = g->kernel_height * g->kernel_width * g->channels;
    const int32_t words = (count + 3) / 4;
    const int32_t runs = g->dilation_width == 1 ? 1 : g->kernel_width; /* per row of the kernel */
    const int32_t run = g->kernel_width / runs * g->channels;
    const ew_reads reads = {4 * words, 0, 1, words};
    uint8_t *patches = memory + height * width * g->channels;
    ew_wide_pad(g, c->zero_point, x, height, width, memory);
    for (int32_t row = 0; row < g->out_height; row++) {
        for (int32_t column = 0; column < g->out_width; column += EW_PLACES) {
            const int32_t places = g->out_width - column < EW_PLACES ? g->out_width - column
                                                                     : EW_PLACES;
            for (int32_t p = 0; p < places; p++) {
                uint8_t *patch = patches + p * 4 * words;
                const uint8_t *from = memory + (row * g->stride_height * width
                                                + (column + p) * g->stride_width) * g->channels;
                for (int32_t ky = 0; ky < g->kernel_height; ky++) {
                    for (int32_t i = 0; i < runs; i++, patch += run) {
                        memcpy(patch, from + i * g->dilation_width * g->channels, (size_t)run);
                    }
                    from += g->dilation_height * width * g->channels;
                }
            }
            ew_wide_row(c, &reads, patches, results, row * g->out_width + column, places);
        }
    }
}

/* Every output reads one channel, and every channel is read by one output. Weights are in (block of
 * channels, group of 4 taps, channel, tap). */
static inline void ew_wide_depthwise(const ew_wide_convolution *c, const uint8_t *x, void *results,
                                     uint8_t *padded) {
    const ew_window *g = &c->window;
    const int32_t height = ew_wide_height(g), width = ew_wide_width(g);
    const int32_t taps = g->kernel_height * g->kernel_width, quads = (taps + 3) / 4;
    const int32_t blocks = (g->channels + EW_LANES - 1) / EW_LANES;
    int32_t offsets[EW_TAPS]; /* of every tap; those that fill the last group have no weight */
    for (int32_t tap = 0; tap < 4 * quads; tap++) {
        const int32_t known = tap < taps ? tap : 0;
        offsets[tap] = (known / g->kernel_width * g->dilation_height * width
                        + known % g->kernel_width * g->dilation_width) * g->channels;
    }
    ew_wide_pad(g, c->zero_point, x, height, width, padded);
    for (int32_t place = 0, row = 0, column = 0; place < g->out_height * g->out_width; place++) {
        const uint8_t *at = padded + (row * g->stride_height * width + column * g->stride_width)
                                         * g->channels;
        if (++column == g->out_width) {
            column = 0;
            row++;
        }
        for (int32_t block = 0; block < blocks; block++) {
            const __mmask16 mask = ew_wide_mask(g->channels - block * EW_LANES);
            const int8_t *w = c->weight + block * quads * 64;
            __m512i sums = _mm512_setzero_si512();
            for (int32_t quad = 0; quad < quads; quad++, w += 64) {
                __m128i read[4];
                for (int32_t i = 0; i < 4; i++) {
                    read[i] = _mm_maskz_loadu_epi8(mask, at + offsets[4 * quad + i]
                                                             + block * EW_LANES);
                }
                const __m128i low01 = _mm_unpacklo_epi8(read[0], read[1]);
                const __m128i high01 = _mm_unpackhi_epi8(read[0], read[1]);
                const __m128i low23 = _mm_unpacklo_epi8(read[2], read[3]);
                const __m128i high23 = _mm_unpackhi_epi8(read[2], read[3]);
                __m512i inputs = _mm512_castsi128_si512(_mm_unpacklo_epi16(low01, low23));
                inputs = _mm512_inserti32x4(inputs, _mm_unpackhi_epi16(low01, low23), 1);
                inputs = _mm512_inserti32x4(inputs, _mm_unpacklo_epi16(high01, high23), 2);
                inputs = _mm512_inserti32x4(inputs, _mm_unpackhi_epi16(high01, high23), 3);
                sums = _mm512_dpbusd_epi32(sums, inputs, _mm512_loadu_si512(w));
            }
            ew_wide_finish(c, sums, block, results, place);
        }
    }
}

typedef struct {
    int32_t size;
    int32_t first_zero, second_zero;
    double first_scale, second_scale;
    int32_t out_zero_point, low, high, out_bytes;
} ew_wide_pair;

/* Two tensors of uint8 and of one size. */
static inline void ew_wide_add(const ew_wide_pair *p, const uint8_t *first, const uint8_t *second,
                               void *results) {
    const __m512d first_scale = _mm512_set1_pd(p->first_scale);
    const __m512d second_scale = _mm512_set1_pd(p->second_scale);
    for (int32_t i = 0; i < p->size; i += 16) {
        const __mmask16 mask = ew_wide_mask(p->size - i);
        const __m512i a = _mm512_sub_epi32(
            _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, first + i)),
            _mm512_set1_epi32(p->first_zero));
        const __m512i b = _mm512_sub_epi32(
            _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, second + i)),
            _mm512_set1_epi32(p->second_zero));
        const __m512d low = _mm512_add_pd(
            _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(a)), first_scale),
            _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(b)), second_scale));
        const __m512d high = _mm512_add_pd(
            _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(a, 1)), first_scale),
            _mm512_mul_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(b, 1)), second_scale));
        ew_wide_store(ew_wide_round(low, high), p->out_zero_point, p->low, p->high, p->out_bytes,
                      results, i, mask);
    }
}
