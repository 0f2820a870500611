#include "models/weights/tensor_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "models/weights/tensor_header.h"
#include "models/weights/zip_archive.h"

namespace cardionode {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace fs = std::filesystem;

Error out_of_memory(const std::string& doing, const fs::path& file) {
    return retry_error(doing + " " + file.string() + ": not enough memory");
}

Error write_error(const std::string& doing, const fs::path& file, int code) {
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

/// The locked, empty file that will become `file`. One name a target, so that killed processes leave one file at most,
/// which the next writer takes over.
Result<int> open_part(const fs::path& part, const fs::path& file) {
    for (;;) {
        const int fd = ::open(part.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
        if (fd < 0) return write_error("writing", file, errno);
        if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
            const int code = errno;
            ::close(fd);
            if (code != EWOULDBLOCK) return write_error("locking", part, code);
            return bug_error("writing " + file.string() + ": somebody else is writing it");
        }
        struct stat opened {};
        struct stat named {};
        const bool known = ::fstat(fd, &opened) == 0 && S_ISREG(opened.st_mode);
        // Between open and lock another writer may have committed: then this descriptor is of the committed file.
        const bool moved = known && (::lstat(part.c_str(), &named) != 0 || named.st_ino != opened.st_ino);
        if (known && !moved && ::ftruncate(fd, 0) == 0) return fd;
        const int code = errno;
        ::close(fd);
        if (!known) return config_error(part.string() + ": not a regular file");
        if (!moved) return write_error("emptying", part, code);
    }
}

}  // namespace

std::uint64_t TensorEntry::elements() const {
    std::uint64_t count = 1;
    for (const std::int64_t size : shape) count *= static_cast<std::uint64_t>(size);
    return count;
}

bool TensorEntry::floating() const { return dtype == "F32" || dtype == "F16" || dtype == "BF16" || dtype == "F64"; }

struct TensorFile::State {
    fs::path path;
    WeightsFile file;
    std::uint64_t data_begin = 0;
    TensorHeader header;
    std::map<std::string, std::size_t, std::less<>> by_name;
};

TensorFile::TensorFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
TensorFile::TensorFile(TensorFile&&) noexcept = default;
TensorFile& TensorFile::operator=(TensorFile&&) noexcept = default;
TensorFile::~TensorFile() = default;

Result<TensorFile> TensorFile::open(const fs::path& path) {
    const TensorFileLimits limits;
    const std::string who = path.string();
    try {
        auto file = WeightsFile::open(path);
        if (!file) return std::move(file).error().in(who);
        const std::uint64_t size = file->size();
        if (size > limits.file_bytes) return config_error(who + ": larger than the limit for weights");
        if (size < 8) return config_error(who + ": too short for a safetensors file");
        std::uint64_t header_bytes = 0;
        if (auto read = file->read(&header_bytes, 8, 0); !read) return std::move(read).error().in(who);
        if (header_bytes > size - 8 || header_bytes > limits.header_bytes) {
            return config_error(who + ": not a safetensors file: its header would be " + std::to_string(header_bytes) +
                                " bytes long");
        }
        const auto text = file->text(header_bytes, 8);
        if (!text) return Error(text.error()).in(who);
        auto header = parse_tensor_header(*text, size - 8 - header_bytes, limits);
        if (!header) return std::move(header).error().in(who);
        auto state = std::make_unique<State>(State{path, std::move(*file), 8 + header_bytes, std::move(*header), {}});
        const auto& entries = state->header.entries;
        for (std::size_t i = 0; i < entries.size(); ++i) state->by_name.emplace(entries[i].name, i);
        return TensorFile(std::move(state));
    } catch (const std::bad_alloc&) {
        return out_of_memory("reading", path);
    }
}

const std::vector<TensorEntry>& TensorFile::entries() const { return state_->header.entries; }

const TensorEntry* TensorFile::find(std::string_view name) const {
    const auto found = state_->by_name.find(name);
    return found == state_->by_name.end() ? nullptr : &state_->header.entries[found->second];
}

const std::map<std::string, std::string>& TensorFile::metadata() const { return state_->header.metadata; }

Result<void> TensorFile::read(const TensorEntry& entry, std::uint64_t offset, std::span<std::byte> target) const {
    const TensorEntry* known = find(entry.name);
    if (known == nullptr || known->begin != entry.begin || known->bytes != entry.bytes) {
        return bug_error(state_->path.string() + ": tensor '" + entry.name + "' is not of this file");
    }
    if (offset > entry.bytes || target.size() > entry.bytes - offset) {
        return bug_error(state_->path.string() + ": tensor '" + entry.name + "' was read beyond its end");
    }
    if (target.empty()) return {};
    auto read = state_->file.read(target.data(), target.size(), state_->data_begin + entry.begin + offset);
    if (!read) return std::move(read).error().in(state_->path.string());
    return {};
}

Result<std::vector<float>> TensorFile::floats(const TensorEntry& entry) const {
    if (entry.dtype != "F32") {
        return bug_error(state_->path.string() + ": tensor '" + entry.name + "' is " + entry.dtype + ", not F32");
    }
    try {
        std::vector<float> values(entry.bytes / sizeof(float));
        if (auto got = read(entry, 0, std::as_writable_bytes(std::span(values))); !got) return std::move(got).error();
        return values;
    } catch (const std::bad_alloc&) {
        return out_of_memory("reading", state_->path);
    }
}

struct TensorFileWriter::State {
    fs::path file, part;
    int fd = -1;
    std::uint64_t expected = 0, written = 0;  ///< bytes of data
    bool failed = false;

    State(fs::path target, fs::path temporary, int descriptor)
        : file(std::move(target)), part(std::move(temporary)), fd(descriptor) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
        if (fd < 0) return;
        ::unlink(part.c_str());  // while the lock is still held
        ::close(fd);
    }

    Result<void> put(const void* source, std::uint64_t bytes) {
        const auto* from = static_cast<const char*>(source);
        while (bytes > 0) {
            const ssize_t done = ::write(fd, from, std::min<std::uint64_t>(bytes, 1U << 30));
            if (done < 0 && errno == EINTR) continue;
            if (done < 0) {
                failed = true;
                return write_error("writing", file, errno);
            }
            from += done;
            bytes -= static_cast<std::uint64_t>(done);
        }
        return {};
    }
};

TensorFileWriter::TensorFileWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
TensorFileWriter::TensorFileWriter(TensorFileWriter&&) noexcept = default;
TensorFileWriter::~TensorFileWriter() = default;

Result<TensorFileWriter> TensorFileWriter::create(const fs::path& file, std::vector<TensorEntry> entries,
                                                  const std::map<std::string, std::string>& metadata) {
    const std::string doing = "writing " + file.string();
    try {
        nlohmann::ordered_json header = nlohmann::ordered_json::object();
        if (!metadata.empty()) header["__metadata__"] = metadata;
        std::uint64_t at = 0;
        for (TensorEntry& entry : entries) {
            entry.begin = at;
            entry.bytes = entry.elements() * element_bytes(entry.dtype);
            at += entry.bytes;
            header[entry.name] = {{"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {entry.begin, at}}};
        }
        std::string text = header.dump();
        text.append((8 - text.size() % 8) % 8, ' ');
        // What is written must be readable: unknown dtypes, odd names and shapes, names that occur twice show here.
        const auto checked = parse_tensor_header(text, at);
        if (!checked) return bug_error(doing + ": " + checked.error().message);
        if (text.size() > TensorFileLimits{}.header_bytes || checked->entries.size() != entries.size()) {
            return bug_error(doing + ": a name occurs twice or there are too many tensors");
        }
        const fs::path part = file.string() + ".part";
        const auto fd = open_part(part, file);
        if (!fd) return Error(fd.error());
        auto state = std::make_unique<State>(file, part, *fd);
        state->expected = at;
        const std::uint64_t length = text.size();
        if (auto put = state->put(&length, 8); !put) return std::move(put).error();
        if (auto put = state->put(text.data(), text.size()); !put) return std::move(put).error();
        return TensorFileWriter(std::move(state));
    } catch (const nlohmann::json::exception& error) {
        return bug_error(doing + ": " + error.what());
    } catch (const std::bad_alloc&) {
        return out_of_memory("writing", file);
    }
}

Result<void> TensorFileWriter::append(std::span<const std::byte> bytes) {
    if (!state_ || state_->fd < 0) return bug_error("tensors were appended to a file that is closed");
    if (bytes.size() > state_->expected - state_->written) {
        return bug_error("writing " + state_->file.string() + ": more bytes than its tensors hold");
    }
    if (auto put = state_->put(bytes.data(), bytes.size()); !put) return put;
    state_->written += bytes.size();
    return {};
}

Result<void> TensorFileWriter::append(std::span<const float> values) { return append(std::as_bytes(values)); }

Result<void> TensorFileWriter::commit() {
    if (!state_ || state_->fd < 0) return bug_error("a tensor file was committed twice");
    State& s = *state_;
    if (s.failed || s.written != s.expected) {
        return bug_error("writing " + s.file.string() + ": " + std::to_string(s.expected - s.written) +
                         " bytes of its tensors are missing");
    }
    if (::fsync(s.fd) != 0) return write_error("syncing", s.file, errno);
    if (::rename(s.part.c_str(), s.file.c_str()) != 0) return write_error("renaming to", s.file, errno);
    if (::close(std::exchange(s.fd, -1)) != 0) return write_error("closing", s.file, errno);
    const fs::path folder = s.file.has_parent_path() ? s.file.parent_path() : fs::path(".");
    const int parent = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int code = parent < 0 || ::fsync(parent) != 0 ? errno : 0;
    if (parent >= 0) ::close(parent);
    if (code != 0) return write_error("syncing the folder of", s.file, code);
    return {};
}

}  // namespace cardionode
