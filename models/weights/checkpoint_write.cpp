#include "models/weights/checkpoint_write.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <new>
#include <optional>

#include "models/weights/zip_archive.h"

namespace cardionode {
namespace {

constexpr std::uint64_t kLimit = 0xffffffff;  // without the zip64 form
constexpr std::uint64_t kAlignment = 64;

std::string little(std::uint64_t value, int width) {
    std::string bytes;
    for (int i = 0; i < width; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
    return bytes;
}

std::optional<std::string> storage_of(torch::ScalarType dtype) {
    switch (dtype) {
        case torch::kFloat32: return "FloatStorage";
        case torch::kFloat16: return "HalfStorage";
        case torch::kBFloat16: return "BFloat16Storage";
        case torch::kFloat64: return "DoubleStorage";
        case torch::kInt64: return "LongStorage";
        case torch::kInt32: return "IntStorage";
        case torch::kInt16: return "ShortStorage";
        case torch::kInt8: return "CharStorage";
        case torch::kUInt8: return "ByteStorage";
        case torch::kBool: return "BoolStorage";
        default: return std::nullopt;
    }
}

/// Writes instructions as Python's pickler does: what occurs again is recalled from the memo.
class Pickler {
public:
    std::string bytes = "\x80\x02";

    void remember() {
        const std::uint64_t slot = next_++;
        bytes += slot < 256 ? "q" + little(slot, 1) : "r" + little(slot, 4);
    }
    void text(const std::string& value) {
        bytes += "X" + little(value.size(), 4) + value;
        remember();
    }
    /// A constant of the pickle: written once.
    void known_text(const std::string& value) { once("'" + value, "X" + little(value.size(), 4) + value); }
    void global(const std::string& module, const std::string& name) {
        once(module + "." + name, "c" + module + "\n" + name + "\n");
    }
    void integer(std::int64_t value) {
        if (value >= 0 && value < 256) bytes += "K" + little(static_cast<std::uint64_t>(value), 1);
        else if (value >= 0 && value < 65536) bytes += "M" + little(static_cast<std::uint64_t>(value), 2);
        else if (value >= INT32_MIN && value <= INT32_MAX) bytes += "J" + little(static_cast<std::uint64_t>(value), 4);
        else bytes += "\x8a\x08" + little(static_cast<std::uint64_t>(value), 8);
    }
    void tuple(const std::vector<std::int64_t>& values) {
        if (values.size() > 3) bytes += "(";
        for (const std::int64_t value : values) integer(value);
        constexpr char kSmall[] = {')', '\x85', '\x86', '\x87'};
        bytes += values.size() > 3 ? 't' : kSmall[values.size()];
        if (!values.empty()) remember();
    }

private:
    void once(const std::string& key, const std::string& instruction) {
        const auto [at, fresh] = memo_.emplace(key, next_);
        if (fresh) {
            bytes += instruction;
            remember();
        } else {
            bytes += at->second < 256 ? "h" + little(at->second, 1) : "j" + little(at->second, 4);
        }
    }
    std::map<std::string, std::uint64_t> memo_;
    std::uint64_t next_ = 0;
};

std::vector<std::int64_t> contiguous_strides(const std::vector<std::int64_t>& shape) {
    std::vector<std::int64_t> strides(shape.size(), 1);
    for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<std::int64_t>(shape[i], 1);
    return strides;
}

/// A temporary file that is gone unless it was put in place.
class Target {
public:
    explicit Target(std::filesystem::path file) : file_(std::move(file)), temporary_(file_.string() + ".XXXXXX") {
        fd_ = ::mkstemp(temporary_.data());
        if (fd_ >= 0) ::fchmod(fd_, 0644);
    }
    ~Target() {
        if (fd_ >= 0) ::close(fd_);
        if (!done_ && !temporary_.empty()) ::unlink(temporary_.c_str());
    }
    Target(const Target&) = delete;
    Target& operator=(const Target&) = delete;

    Result<void> write(const void* source, std::uint64_t count) {
        const auto* from = static_cast<const char*>(source);
        while (count > 0) {
            const ssize_t put = fd_ < 0 ? -1 : ::write(fd_, from, std::min<std::uint64_t>(count, 1U << 30));
            if (put < 0 && errno == EINTR) continue;
            if (put < 0) return failed("writing");
            from += put;
            count -= static_cast<std::uint64_t>(put);
            at += static_cast<std::uint64_t>(put);
        }
        return {};
    }
    Result<void> write(const std::string& text) { return write(text.data(), text.size()); }
    Result<void> put_in_place() {
        if (::fsync(fd_) != 0 || ::rename(temporary_.c_str(), file_.c_str()) != 0) return failed("writing");
        done_ = true;
        const std::filesystem::path folder = file_.has_parent_path() ? file_.parent_path() : ".";
        const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const bool synced = fd >= 0 && ::fsync(fd) == 0;
        if (fd >= 0) ::close(fd);
        return synced ? Result<void>() : failed("syncing the folder of");
    }
    bool open() const { return fd_ >= 0; }
    Error failed(const char* doing) const {
        const int code = errno;
        const std::string message = std::string(doing) + " " + file_.string() + ": " + std::strerror(code);
        const bool place = code == ENOENT || code == ENOTDIR || code == EACCES || code == EPERM || code == EROFS ||
                           code == EISDIR || code == ENAMETOOLONG;
        return place ? config_error(message) : retry_error(message);
    }
    std::uint64_t at = 0;

private:
    std::filesystem::path file_;
    std::string temporary_;
    int fd_ = -1;
    bool done_ = false;
};

struct Written {
    std::string name;
    std::uint64_t begin = 0, bytes = 0;  ///< begin: of the local header
    std::uint32_t crc = 0;
};

/// What local header and table of contents say alike: version 2.0, no flags, stored, 1980-01-01.
std::string facts_of(const Written& w) {
    return little(20, 2) + little(0, 2) + little(0, 2) + little(0, 2) + little(0x21, 2) + little(w.crc, 4) +
           little(w.bytes, 4) + little(w.bytes, 4) + little(w.name.size(), 2);
}

Result<void> write_entry(Target& target, std::vector<Written>& table, const std::string& name, const void* data,
                         std::uint64_t bytes) {
    Written w{name, target.at, bytes, crc32_of(data, bytes)};
    if (bytes > kLimit - target.at) return config_error("a checkpoint of more than 4 GB is not written");
    // torch.save's padding: an extra field "FB" that moves the data to a multiple of 64 bytes.
    const std::uint64_t bare = target.at + 30 + name.size() + 4;
    const std::uint64_t padding = (kAlignment - bare % kAlignment) % kAlignment;
    const std::string header = "PK\x03\x04" + facts_of(w) + little(4 + padding, 2) + name + "FB" + little(padding, 2) +
                               std::string(padding, 'Z');
    if (Result<void> r = target.write(header); !r) return r;
    if (Result<void> r = target.write(data, bytes); !r) return r;
    table.push_back(std::move(w));
    return {};
}

Result<void> write_archive(const std::filesystem::path& file, const OrderedTensors& tensors, CheckpointDict kind) {
    Result<std::string> pickle = checkpoint_pickle(tensors, kind);
    if (!pickle) return std::move(pickle).error();
    Target target(file);
    if (!target.open()) return target.failed("writing");
    std::vector<Written> table;
    const std::string folder = file.stem().string() + "/";
    if (Result<void> r = write_entry(target, table, folder + "data.pkl", pickle->data(), pickle->size()); !r) return r;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const torch::Tensor data = tensors[i].second.detach().to(torch::kCPU).contiguous();
        if (Result<void> r =
                write_entry(target, table, folder + "data/" + std::to_string(i), data.data_ptr(), data.nbytes());
            !r)
            return r;
    }
    if (Result<void> r = write_entry(target, table, folder + "version", "3\n", 2); !r) return r;
    const std::uint64_t begin = target.at;
    std::string contents;
    for (const Written& w : table) {
        contents += "PK\x01\x02" + little(20, 2) + facts_of(w) + little(0, 2) + little(0, 2) + little(0, 2) +
                    little(0, 2) + little(0, 4) + little(w.begin, 4) + w.name;
    }
    if (begin > kLimit || table.size() > 0xffff) return config_error("a checkpoint of more than 4 GB is not written");
    contents += "PK\x05\x06" + little(0, 4) + little(table.size(), 2) + little(table.size(), 2) +
                little(contents.size(), 4) + little(begin, 4) + little(0, 2);
    if (Result<void> r = target.write(contents); !r) return r;
    return target.put_in_place();
}

}  // namespace

Result<std::string> checkpoint_pickle(const OrderedTensors& tensors, CheckpointDict kind) {
    Pickler p;
    const auto ordered_dict = [&] {
        p.global("collections", "OrderedDict");
        p.bytes += ")R";
        p.remember();
    };
    if (kind == CheckpointDict::Ordered) {
        ordered_dict();
    } else {
        p.bytes += "}";
        p.remember();
    }
    if (!tensors.empty()) p.bytes += "(";
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const auto& [name, tensor] = tensors[i];
        if (!tensor.defined()) return bug_error("tensor '" + name + "' is undefined");
        const auto storage = storage_of(tensor.scalar_type());
        if (!storage) return bug_error("tensor '" + name + "' has a type that checkpoints do not hold");
        p.text(name);
        p.global("torch._utils", "_rebuild_tensor_v2");
        p.bytes += "((";
        p.known_text("storage");
        p.global("torch", *storage);
        p.text(std::to_string(i));
        p.known_text("cpu");
        p.integer(tensor.numel());
        p.bytes += "t";
        p.remember();
        p.bytes += "Q";
        p.integer(0);  // offset
        p.tuple(tensor.sizes().vec());
        p.tuple(contiguous_strides(tensor.sizes().vec()));
        p.bytes += "\x89";  // requires no gradient
        ordered_dict();     // backward hooks: none
        p.bytes += "t";
        p.remember();
        p.bytes += "R";
        p.remember();
    }
    if (!tensors.empty()) p.bytes += "u";
    return p.bytes + ".";
}

Result<void> write_checkpoint(const std::filesystem::path& file, const OrderedTensors& tensors, CheckpointDict kind) {
    try {
        return write_archive(file, tensors, kind);
    } catch (const c10::Error& error) {
        return retry_error("writing " + file.string() + ": " + error.what_without_backtrace());
    } catch (const std::bad_alloc&) {
        return retry_error("writing " + file.string() + ": not enough memory");
    }
}

}  // namespace cardionode
