// Weights of a stranger as torch gets them: a checkpoint of torch.save in both forms, or safetensors.
#include "models/weights/checkpoint.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace cardionode;
    static fuzz::InputFile input;
    const auto& file = input.holding(data, size);
    const auto weights = read_weights(file);
    if (weights)
        for (const auto& [name, tensor] : *weights)
            CARDIONODE_PROMISE(tensor.defined() && tensor.is_contiguous() && tensor.device().is_cpu());
    const auto strict = read_safetensors(file);
    CARDIONODE_PROMISE(!strict || weights);
    return 0;
}
