/* Whether the top softmax probability of logits reaches a threshold: see ExitTest. */
static inline int ew_is_sure(const int32_t *logits, int32_t count, int32_t factor, int32_t shift,
                             int64_t limit) {
    const int32_t rest = EW_EXPONENT_BITS - EW_TABLE_BITS;
    int32_t top = logits[0];
    for (int32_t i = 1; i < count; i++) {
        top = logits[i] > top ? logits[i] : top;
    }
    int64_t sum = 0;
    for (int32_t i = 0; i < count; i++) {
        const int64_t exponent = ((int64_t)top - logits[i]) * factor >> shift;
        const int64_t whole = exponent >> EW_EXPONENT_BITS;
        const int32_t place = (int32_t)(exponent & ((1 << EW_EXPONENT_BITS) - 1));
        const int32_t entry = place >> rest, between = place & ((1 << rest) - 1);
        const int32_t power = ew_powers[entry]
            - (int32_t)((int64_t)(ew_powers[entry] - ew_powers[entry + 1]) * between >> rest);
        sum += whole > EW_ONE_BITS ? 0 : power >> whole;
    }
    return sum <= limit;
}
