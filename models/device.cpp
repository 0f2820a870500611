#include "models/device.h"

#include <dlfcn.h>
#include <sched.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace cardionode {
namespace {

bool works(const torch::Device& device) {
    // A driver that is too old, or a card in use by another process alone, shows only when something is computed.
    try {
        return (torch::ones({8}, device) + 1).sum().item<float>() == 16.0f;
    } catch (const c10::Error&) {
        return false;
    }
}

std::string model_from_driver() {
    namespace fs = std::filesystem;
    std::error_code error;
    std::string model;
    for (const auto& card : fs::directory_iterator("/proc/driver/nvidia/gpus", error)) {
        std::ifstream information(card.path() / "information");
        for (std::string line; std::getline(information, line);) {
            if (line.rfind("Model:", 0) != 0) continue;
            if (!model.empty()) return {};  // several cards: their order here need not be CUDA's
            const auto at = line.find_first_not_of(" \t", 6);
            if (at != std::string::npos) model = line.substr(at);
        }
    }
    return model;
}

}  // namespace

Result<torch::Device> device_from(const std::string& word) {
    if (word == "cpu") return torch::Device(torch::kCPU);
    const bool wants_first = word == "auto" || word == "cuda";
    int number = 0;
    if (!wants_first) {
        const std::string digits = word.rfind("cuda:", 0) == 0 ? word.substr(5) : "";
        if (digits.empty() || digits.size() > 2 || digits.find_first_not_of("0123456789") != std::string::npos) {
            return config_error("device: expected auto, cuda, cuda:N or cpu, found '" + word + "'");
        }
        number = std::stoi(digits);
    }
    int cards = 0;
    try {
        cards = torch::cuda::is_available() ? static_cast<int>(torch::cuda::device_count()) : 0;
    } catch (const c10::Error&) {
        cards = 0;
    }
    const torch::Device device(torch::kCUDA, static_cast<c10::DeviceIndex>(number));
    if (number < cards && works(device)) return device;
    if (word == "auto") return torch::Device(torch::kCPU);
    return config_error("device: " + word + " was asked for, but this program sees " + std::to_string(cards) +
                        " usable GPUs" + (number < cards ? ", and this one fails a first computation" : ""));
}

std::string device_name(const torch::Device& device) {
    if (!device.is_cuda()) return "cpu";
    const std::string name = "cuda:" + std::to_string(std::max<int>(0, device.index()));
    const std::string model = model_from_driver();
    return model.empty() ? name : name + " (" + model + ")";
}

int set_cpu_threads(int threads) {
    if (threads <= 0) {
        cpu_set_t cores;
        threads = ::sched_getaffinity(0, sizeof(cores), &cores) == 0 ? CPU_COUNT(&cores) : 1;
    }
    at::set_num_threads(threads);
    // OpenBLAS would start a thread a core beside torch's own, and both spin while they wait: on a busy machine that
    // made a network ten times slower. Torch's threads carry the convolutions, which are most of the work.
    if (auto* set_blas = reinterpret_cast<void (*)(int)>(::dlsym(RTLD_DEFAULT, "openblas_set_num_threads"))) {
        set_blas(1);
    }
    return threads;
}

}  // namespace cardionode
