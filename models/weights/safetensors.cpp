#include "models/weights/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

namespace cardionode {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace fs = std::filesystem;

/// Owns a descriptor. conf/base has one too; this folder builds without conf/base.
class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }
    bool valid() const { return fd_ >= 0; }
    /// Closes now; a write error that the kernel kept back shows here.
    bool close_now() { return ::close(std::exchange(fd_, -1)) == 0; }

private:
    int fd_;
};

Error io_error(const std::string& doing, const fs::path& file, int code) {
    const std::string message = doing + " " + file.string() + ": " + std::strerror(code);
    switch (code) {
        case ENOENT:
        case ENOTDIR:
        case EISDIR:
        case EACCES:
        case EPERM:
        case EROFS:
        case ELOOP:
        case ENAMETOOLONG: return config_error(message);
        default: return retry_error(message);
    }
}

Result<void> read_at(int fd, void* target, std::uint64_t bytes, std::uint64_t offset, const fs::path& file) {
    auto* to = static_cast<char*>(target);
    while (bytes > 0) {
        const ssize_t got = ::pread(fd, to, std::min<std::uint64_t>(bytes, 1u << 30), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io_error("reading", file, errno);
        if (got == 0) return config_error(file.string() + ": the file became shorter while it was read");
        to += got;
        offset += static_cast<std::uint64_t>(got);
        bytes -= static_cast<std::uint64_t>(got);
    }
    return {};
}

Result<void> write_all_bytes(int fd, const void* source, std::uint64_t bytes, const fs::path& file) {
    const auto* from = static_cast<const char*>(source);
    while (bytes > 0) {
        const ssize_t put = ::write(fd, from, std::min<std::uint64_t>(bytes, 1u << 30));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return io_error("writing", file, errno);
        from += put;
        bytes -= static_cast<std::uint64_t>(put);
    }
    return {};
}

const char* word_of(torch::ScalarType dtype) {
    switch (dtype) {
        case torch::kFloat64: return "F64";
        case torch::kFloat32: return "F32";
        case torch::kFloat16: return "F16";
        case torch::kBFloat16: return "BF16";
        case torch::kInt64: return "I64";
        case torch::kInt32: return "I32";
        case torch::kUInt8: return "U8";
        default: return nullptr;
    }
}

Result<Safetensors> read_open_file(int fd, const fs::path& file, const std::string& prefix,
                                   const SafetensorsLimits& limits) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) return io_error("reading", file, errno);
    if (!S_ISREG(status.st_mode)) return config_error(file.string() + ": not a regular file");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size > limits.file_bytes) return config_error(file.string() + ": larger than the limit for weights");
    if (size < 8) return config_error(file.string() + ": too short for a safetensors file");
    std::uint64_t header_bytes = 0;
    if (auto read = read_at(fd, &header_bytes, 8, 0, file); !read) return std::move(read).error();
    if (header_bytes > size - 8 || header_bytes > limits.header_bytes) {
        return config_error(file.string() + ": not a safetensors file: its header would be " +
                            std::to_string(header_bytes) + " bytes long");
    }
    std::string text(header_bytes, '\0');
    if (auto read = read_at(fd, text.data(), header_bytes, 8, file); !read) return std::move(read).error();
    auto header = parse_safetensors_header(text, size - 8 - header_bytes, limits);
    if (!header) return std::move(header).error().in(file.string());

    Safetensors result;
    result.metadata = std::move(header->metadata);
    for (const SafetensorsEntry& entry : header->entries) {
        if (entry.name.compare(0, prefix.size(), prefix) != 0) continue;
        torch::Tensor tensor = torch::empty(entry.shape, torch::dtype(entry.dtype));
        if (entry.end > entry.begin) {
            auto read = read_at(fd, tensor.data_ptr(), entry.end - entry.begin, 8 + header_bytes + entry.begin, file);
            if (!read) return std::move(read).error();
        }
        result.tensors.emplace(entry.name, std::move(tensor));
    }
    return result;
}

struct Prepared {
    std::string name;
    torch::Tensor tensor;  ///< contiguous, CPU
};

Result<void> write_stream(int fd, const fs::path& file, const std::string& header,
                          const std::vector<Prepared>& tensors) {
    const std::uint64_t length = header.size();
    if (auto wrote = write_all_bytes(fd, &length, 8, file); !wrote) return wrote;
    if (auto wrote = write_all_bytes(fd, header.data(), header.size(), file); !wrote) return wrote;
    for (const Prepared& item : tensors) {
        if (item.tensor.numel() == 0) continue;
        if (auto wrote = write_all_bytes(fd, item.tensor.data_ptr(), item.tensor.nbytes(), file); !wrote) return wrote;
    }
    if (::fsync(fd) != 0) return io_error("syncing", file, errno);
    return {};
}

Result<void> replace_durably(const fs::path& file, const std::string& header, const std::vector<Prepared>& tensors) {
    static std::atomic<unsigned> counter{0};
    const fs::path temporary =
        file.string() + ".part-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1));
    Descriptor out(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!out.valid()) return io_error("writing", file, errno);
    auto written = write_stream(out.get(), file, header, tensors);
    if (written && !out.close_now()) written = io_error("closing", file, errno);
    if (written && ::rename(temporary.c_str(), file.c_str()) != 0) written = io_error("renaming to", file, errno);
    if (!written) {
        ::unlink(temporary.c_str());  // the error that matters is the one above
        return written;
    }
    const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
    Descriptor parent(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent.valid() || ::fsync(parent.get()) != 0) return io_error("syncing the folder of", file, errno);
    return {};
}

}  // namespace

Result<Safetensors> read_safetensors(const fs::path& file, const std::string& prefix, const SafetensorsLimits& limits) {
    try {
        Descriptor in(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        if (!in.valid()) return io_error("reading", file, errno);
        return read_open_file(in.get(), file, prefix, limits);
    } catch (const c10::Error& error) {
        return retry_error("reading " + file.string() + ": " + error.what_without_backtrace());
    } catch (const std::bad_alloc&) {
        return retry_error("reading " + file.string() + ": not enough memory");
    }
}

Result<void> write_safetensors(const fs::path& file, const NamedTensors& tensors,
                               const std::map<std::string, std::string>& metadata) {
    try {
        std::vector<Prepared> prepared;
        for (const auto& [name, tensor] : tensors) {
            if (!tensor.defined() || word_of(tensor.scalar_type()) == nullptr || name == "__metadata__") {
                return bug_error("writing " + file.string() + ": tensor '" + name + "' has no dtype of safetensors");
            }
            prepared.push_back({name, tensor.detach().to(torch::kCPU).contiguous()});
        }
        // Wide elements first, so that each tensor starts at a multiple of its element size.
        std::stable_sort(prepared.begin(), prepared.end(), [](const Prepared& a, const Prepared& b) {
            return a.tensor.element_size() > b.tensor.element_size();
        });
        nlohmann::ordered_json header = nlohmann::ordered_json::object();
        if (!metadata.empty()) header["__metadata__"] = metadata;
        std::uint64_t at = 0;
        for (const Prepared& item : prepared) {
            const std::uint64_t end = at + item.tensor.nbytes();
            header[item.name] = {{"dtype", word_of(item.tensor.scalar_type())},
                                 {"shape", item.tensor.sizes().vec()},
                                 {"data_offsets", {at, end}}};
            at = end;
        }
        std::string text = header.dump();
        text.append((8 - text.size() % 8) % 8, ' ');
        return replace_durably(file, text, prepared);
    } catch (const nlohmann::json::exception& error) {
        return bug_error("writing " + file.string() + ": " + error.what());
    } catch (const c10::Error& error) {
        return retry_error("writing " + file.string() + ": " + error.what_without_backtrace());
    } catch (const std::bad_alloc&) {
        return retry_error("writing " + file.string() + ": not enough memory");
    }
}

}  // namespace cardionode
