#include "fedclient/flower/object_store.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"

namespace cardionode::fed {
namespace {

constexpr std::string_view kPart = ".part-";

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

/// Puts a file away unless it has got its name.
struct PartFile {
    FileDescriptor file;
    std::string path;

    ~PartFile() {
        if (!path.empty()) ::unlink(path.c_str());
    }
};

Result<void> read_at(int fd, std::uint64_t offset, std::span<std::byte> target, const std::filesystem::path& path) {
    while (!target.empty()) {
        const ssize_t n = ::pread(fd, target.data(), target.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return file_error("reading", path, errno);
        if (n == 0) return reject_error(fmt::format("{}: the file ends too early", path.string()));
        target = target.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
    return {};
}

}  // namespace

struct ObjectWriter::State {
    std::filesystem::path folder;
    PartFile part;
    Sha256 sha;
    std::string head;  ///< what came so far of it
    bool head_ended = false;
    std::uint64_t written = 0;
};

ObjectWriter::ObjectWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
ObjectWriter::ObjectWriter(ObjectWriter&&) noexcept = default;
ObjectWriter& ObjectWriter::operator=(ObjectWriter&&) noexcept = default;
ObjectWriter::~ObjectWriter() = default;

Result<void> ObjectWriter::append(std::string_view bytes) { return append(bytes_of(bytes)); }

Result<void> ObjectWriter::append(std::span<const std::byte> bytes) {
    State& s = *state_;
    if (!s.head_ended) {
        const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        const std::size_t end = text.find('\0');
        s.head_ended = end != std::string_view::npos;
        s.head.append(text.substr(0, s.head_ended ? end + 1 : end));
        if (s.head.size() > kLongestObjectHead) return reject_error("malformed object: no end of the head");
    }
    s.sha.update(bytes);
    s.written += bytes.size();
    return write_all(s.part.file.get(), bytes, s.part.path);
}

Result<ObjectHead> ObjectWriter::commit(const std::string& id) {
    State& s = *state_;
    if (const std::string found = s.sha.hex_digest(); found != id)
        return reject_error(
            fmt::format("object {}: the bytes have the hash {}", id.substr(0, 12), found.substr(0, 12)));
    auto head = parse_object_head(s.head);
    if (!head) return std::move(head).error();
    if (s.written - head->head_bytes != head->body_bytes)
        return reject_error("malformed object: the body has another length than announced");
    if (::rename(s.part.path.c_str(), (s.folder / id).c_str()) != 0)
        return file_error("renaming to", s.folder / id, errno);
    s.part.path.clear();
    return head;
}

Result<std::string> ObjectWriter::commit() {
    State& s = *state_;
    auto head = parse_object_head(s.head);
    if (!head) return std::move(head).error();
    if (s.written - head->head_bytes != head->body_bytes)
        return reject_error("malformed object: the body has another length than announced");
    std::string id = s.sha.hex_digest();
    if (::rename(s.part.path.c_str(), (s.folder / id).c_str()) != 0)
        return file_error("renaming to", s.folder / id, errno);
    s.part.path.clear();
    return id;
}

Result<ObjectStore> ObjectStore::open(const std::filesystem::path& folder) {
    if (auto made = make_folder(folder); !made) return std::move(made).error();
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
        std::error_code ignored;  // a leftover that stays does no harm
        if (entry.path().filename().string().starts_with(kPart)) std::filesystem::remove(entry.path(), ignored);
    }
    if (error) return file_error("reading folder", folder, error.value());
    return ObjectStore(folder);
}

bool ObjectStore::has(const std::string& id) const {
    return is_object_id(id) && ::access(path_of(id).c_str(), R_OK) == 0;
}

Result<std::uint64_t> ObjectStore::size_of(const std::string& id) const {
    struct stat info {};
    if (!is_object_id(id) || ::stat(path_of(id).c_str(), &info) != 0)
        return reject_error(fmt::format("object {}: not in {}", id.substr(0, 12), folder_.string()));
    return static_cast<std::uint64_t>(info.st_size);
}

Result<ObjectWriter> ObjectStore::begin() const {
    auto state = std::make_unique<ObjectWriter::State>();
    state->folder = folder_;
    std::string pattern = (folder_ / (std::string(kPart) + "XXXXXX")).string();
    state->part.file = FileDescriptor(::mkostemp(pattern.data(), O_CLOEXEC));
    if (!state->part.file.valid()) return file_error("creating a file in", folder_, errno);
    state->part.path = pattern;
    return ObjectWriter(std::move(state));
}

Result<std::string> ObjectStore::put(std::string_view bytes) const {
    if (auto good = parse_object(bytes); !good) return std::move(good).error();
    std::string id = sha256_hex(bytes);
    if (has(id)) return id;
    auto writer = begin();
    if (!writer) return std::move(writer).error();
    if (auto written = writer->append(bytes); !written) return std::move(written).error();
    if (auto done = writer->commit(id); !done) return std::move(done).error();
    return id;
}

Result<ObjectHead> ObjectStore::head_of(const std::string& id) const {
    const auto size = size_of(id);
    if (!size) return size.error();
    std::string bytes;
    for (std::uint64_t want : {std::uint64_t{4096}, std::uint64_t{kLongestObjectHead}}) {
        bytes.resize(std::min(want, *size));
        if (auto got = read(id, 0, std::as_writable_bytes(std::span(bytes))); !got) return std::move(got).error();
        if (bytes.find('\0') != std::string::npos) break;
    }
    return parse_object_head(bytes);
}

Result<Object> ObjectStore::load(const std::string& id, std::uint64_t largest) const {
    const auto size = size_of(id);
    if (!size) return size.error();
    if (*size > largest)
        return reject_error(
            fmt::format("object {}: {} bytes, more than the {} that are taken", id.substr(0, 12), *size, largest));
    const auto bytes = read_file(path_of(id));
    if (!bytes) return bytes.error();
    if (sha256_hex(*bytes) != id) return reject_error(fmt::format("object {}: damaged on disk", id.substr(0, 12)));
    return parse_object(*bytes);
}

Result<void> ObjectStore::read(const std::string& id, std::uint64_t offset, std::span<std::byte> target) const {
    if (!is_object_id(id)) return reject_error("an id that is no object id");
    const FileDescriptor file(::open(path_of(id).c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return file_error("opening", path_of(id), errno);
    return read_at(file.get(), offset, target, path_of(id));
}

Result<bool> ObjectStore::verify(const std::string& id) const {
    if (!has(id)) return false;
    const auto found = sha256_of_file(path_of(id));
    if (!found) return found.error();
    if (*found == id) return true;
    if (auto removed = remove(id); !removed) return std::move(removed).error();
    return false;
}

namespace {

Result<ObjectTree> tree_below(const ObjectStore& store, const std::string& id, int levels_left) {
    auto head = store.head_of(id);
    if (!head) return std::move(head).error();
    ObjectTree tree{id, {}};
    if (levels_left == 0 && !head->children.empty()) return reject_error("object tree: too many levels");
    for (const std::string& child : head->children) {
        auto below = tree_below(store, child, levels_left - 1);
        if (!below) return below;
        tree.children.push_back(std::move(below).value());
    }
    return tree;
}

}  // namespace

Result<ObjectTree> ObjectStore::tree_of(const std::string& id) const { return tree_below(*this, id, 5); }

Result<void> ObjectStore::sync(const std::vector<std::string>& ids) const {
    for (const std::string& id : ids) {
        const FileDescriptor file(::open(path_of(id).c_str(), O_RDONLY | O_CLOEXEC));
        if (!file.valid()) return file_error("opening", path_of(id), errno);
        if (::fsync(file.get()) != 0) return file_error("syncing", path_of(id), errno);
    }
    return sync_folder(folder_);
}

Result<void> ObjectStore::remove(const std::string& id) const {
    if (!is_object_id(id)) return reject_error("an id that is no object id");
    if (::unlink(path_of(id).c_str()) != 0 && errno != ENOENT) return file_error("removing", path_of(id), errno);
    return {};
}

Result<std::vector<std::string>> ObjectStore::ids() const {
    std::vector<std::string> found;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
        std::string name = entry.path().filename().string();
        if (is_object_id(name)) found.push_back(std::move(name));
    }
    if (error) return file_error("reading folder", folder_, error.value());
    std::sort(found.begin(), found.end());
    return found;
}

}  // namespace cardionode::fed
