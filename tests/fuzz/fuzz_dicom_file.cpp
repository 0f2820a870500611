// A Part 10 file as the pipeline reads it: CT, SEG, SR, anything. The bounded scan comes first, then DCMTK.
#include <cmath>

#include "pipeline/read/dicom_file.h"
#include "pipeline/read/instance.h"
#include "tests/fuzz/fuzz_input.h"

using namespace cardionode;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::InputFile input;
    const auto& file = input.holding(data, size);
    constexpr std::uintmax_t kLargest = 4U << 20;
    (void)DicomFile::open(file, DicomFile::Part::Whole, kLargest);
    (void)read_class(file, kLargest);
    const auto facts = read_instance(file, kLargest);
    if (!facts) return 0;
    CARDIONODE_PROMISE(facts->pixels.rows > 0 && facts->pixels.columns > 0);
    for (const FrameFacts& frame : facts->frames)
        if (frame.position)
            for (const double at : *frame.position) CARDIONODE_PROMISE(std::isfinite(at));
    return 0;
}
