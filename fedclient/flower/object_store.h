// A folder of objects, one file each under its id. What stands under an id has that hash, unless the disk lies.
//
// Objects are hashed while they are written and appear under their name only when hash and structure are right. Names
// and bytes are durable after sync(); after a power cut without it an object may be damaged, which verify() finds.
// Thread safety: const functions may run at once; two writers of the same id do no harm. Errors: Reject for bytes that
// are not the object they should be; Retry for a full disk and I/O trouble; Config for a forbidden folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"
#include "fedclient/flower/objects.h"

namespace cardionode::fed {

/// One object on its way into the store, in pieces of any size. Without commit() nothing is left behind.
class ObjectWriter {
public:
    ObjectWriter(ObjectWriter&&) noexcept;
    ObjectWriter& operator=(ObjectWriter&&) noexcept;
    ~ObjectWriter();

    Result<void> append(std::span<const std::byte> bytes);
    Result<void> append(std::string_view bytes);
    /// @param id  what it must be. Reject: another hash, a malformed or truncated object.
    Result<ObjectHead> commit(const std::string& id);
    /// Takes whatever id the bytes have.
    Result<std::string> commit();

private:
    friend class ObjectStore;
    struct State;
    explicit ObjectWriter(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

class ObjectStore {
public:
    /// Makes the folder; what an interrupted writer left there is removed.
    static Result<ObjectStore> open(const std::filesystem::path& folder);

    bool has(const std::string& id) const;
    std::filesystem::path path_of(const std::string& id) const { return folder_ / id; }
    Result<std::uint64_t> size_of(const std::string& id) const;

    Result<ObjectWriter> begin() const;
    /// Writes a whole object and returns its id; one that is there already is not written again.
    Result<std::string> put(std::string_view bytes) const;

    /// Head alone. Reject: not there or damaged.
    Result<ObjectHead> head_of(const std::string& id) const;
    /// A whole object of at most `largest` bytes; its hash is checked again.
    Result<Object> load(const std::string& id, std::uint64_t largest = 16U << 20) const;
    /// Bytes [offset, offset + target.size()) of the object's file.
    Result<void> read(const std::string& id, std::uint64_t offset, std::span<std::byte> target) const;
    /// Hashes the file again. false: not there, or damaged, and then it is removed.
    Result<bool> verify(const std::string& id) const;
    /// The tree below an object, from the heads on disk. Reject: a part is missing.
    Result<ObjectTree> tree_of(const std::string& id) const;

    Result<void> sync(const std::vector<std::string>& ids) const;
    Result<void> remove(const std::string& id) const;
    Result<std::vector<std::string>> ids() const;
    const std::filesystem::path& folder() const { return folder_; }

private:
    explicit ObjectStore(std::filesystem::path folder) : folder_(std::move(folder)) {}
    std::filesystem::path folder_;
};

}  // namespace cardionode::fed
