/* Runs a network on an emulated board: samples from a file, results and counts to files.
 *
 * Files are reached by semihosting. Instructions are counted with SysTick, whose ticks are a fixed
 * number of instructions under qemu's -icount; a loop of known length says how many.
 */
#include <stdint.h>

extern uint32_t load_data, data_begin, data_end, bss_begin, bss_end, stack_top, stack_bottom;
int main(void);
void run_sample(const void *input, void *output);
extern const uint32_t input_bytes, output_bytes;
extern uint8_t input[], output[];

#define SYSTICK ((volatile uint32_t *)0xE000E010)
#define FULL 0xFFFFFFu
#define PAINT 0xA5A5A5A5u

static volatile uint32_t wraps;

static int32_t semihost(int32_t operation, const void *argument) {
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static int32_t open_file(const char *name, uint32_t length, uint32_t mode) {
    const uint32_t arguments[3] = {(uint32_t)name, mode, length};
    return semihost(0x01, arguments);
}

static uint32_t read_file(int32_t file, void *bytes, uint32_t count) {
    const uint32_t arguments[3] = {(uint32_t)file, (uint32_t)bytes, count};
    return (uint32_t)semihost(0x06, arguments); /* bytes that are missing */
}

static void write_file(int32_t file, const void *bytes, uint32_t count) {
    const uint32_t arguments[3] = {(uint32_t)file, (uint32_t)bytes, count};
    semihost(0x05, arguments);
}

static void leave(uint32_t reason) {
    semihost(0x18, (const void *)reason);
    for (;;) {
    }
}

void on_tick(void) {
    wraps++;
}

void on_fault(void) {
    leave(0x20023); /* a run time error */
}

static void start_count(void) {
    wraps = 0;
    SYSTICK[1] = FULL;
    SYSTICK[2] = 0;
    SYSTICK[0] = 7; /* on, with interrupt, at the processor's clock */
}

static uint64_t stop_count(void) {
    const uint32_t left = SYSTICK[2];
    SYSTICK[0] = 0;
    /* from the start on: 0, FULL, FULL - 1, ..., 1, 0 (with the interrupt), FULL, ... */
    return (uint64_t)wraps * (FULL + 1u) + (left ? FULL + 1u - left : 0);
}

void on_reset(void) {
    uint32_t *from = &load_data;
    for (uint32_t *to = &data_begin; to < &data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = &bss_begin; to < &bss_end;) {
        *to++ = 0;
    }
    main();
    leave(0x20026); /* the end of the application */
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))&stack_top, on_reset, on_fault, on_fault, on_fault, on_fault, on_fault,
    on_fault, 0, 0, 0, on_fault, on_fault, 0, on_fault, on_tick};

/* 4 * rounds instructions, less a few. */
static void __attribute__((noinline)) spin(uint32_t rounds) {
    __asm__ volatile(".syntax unified\n1: nop\n nop\n subs %0, #1\n bne 1b" : "+r"(rounds) : : "cc");
}

static void paint_stack(void) {
    uint32_t here;
    for (uint32_t *at = &stack_bottom; at < &here - 64; at++) {
        *at = PAINT;
    }
}

static uint32_t stack_bytes_below(const uint32_t *frame) {
    const uint32_t *at = &stack_bottom;
    while (at < frame && *at == PAINT) {
        at++;
    }
    return (uint32_t)((const uint8_t *)frame - (const uint8_t *)at);
}

int main(void) {
    uint32_t frame;
    const int32_t samples = open_file("samples.bin", 11, 1), results = open_file("results.bin", 11, 5);
    struct {
        uint64_t calibration_ticks, total_ticks, most_ticks;
        uint32_t calibration_instructions, stack_bytes;
    } counts = {0, 0, 0, 4 * 250000, 0};
    start_count();
    spin(250000);
    counts.calibration_ticks = stop_count();
    while (read_file(samples, input, input_bytes) == 0) {
        paint_stack();
        start_count();
        run_sample(input, output);
        const uint64_t ticks = stop_count();
        const uint32_t stack = stack_bytes_below(&frame);
        counts.total_ticks += ticks;
        counts.most_ticks = ticks > counts.most_ticks ? ticks : counts.most_ticks;
        counts.stack_bytes = stack > counts.stack_bytes ? stack : counts.stack_bytes;
        write_file(results, output, output_bytes);
    }
    write_file(open_file("counts.bin", 10, 5), &counts, sizeof counts);
    return 0;
}
