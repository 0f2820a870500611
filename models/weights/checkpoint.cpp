#include "models/weights/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>

#include "models/weights/pickle.h"
#include "models/weights/zip_archive.h"

namespace cardionode {
namespace {

constexpr std::uint64_t kPickleLimit = std::uint64_t{32} << 20;
constexpr std::uint64_t kSpareBytes = std::uint64_t{16} << 20;
/// torch.serialization's MAGIC_NUMBER 0x1950a86a20f9469cfc6c, as a pickled integer.
constexpr std::string_view kLegacyMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

Error damaged(const std::string& what) { return config_error("the checkpoint is damaged: " + what); }

std::optional<torch::ScalarType> dtype_of(const std::string& storage) {
    if (storage == "torch.FloatStorage") return torch::kFloat32;
    if (storage == "torch.HalfStorage") return torch::kFloat16;
    if (storage == "torch.BFloat16Storage") return torch::kBFloat16;
    if (storage == "torch.DoubleStorage") return torch::kFloat64;
    if (storage == "torch.LongStorage") return torch::kInt64;
    if (storage == "torch.IntStorage") return torch::kInt32;
    if (storage == "torch.ShortStorage") return torch::kInt16;
    if (storage == "torch.CharStorage") return torch::kInt8;
    if (storage == "torch.ByteStorage") return torch::kUInt8;
    if (storage == "torch.BoolStorage") return torch::kBool;
    return std::nullopt;
}

/// What the pickle says about one storage, and where the file has it.
struct StorageInfo {
    torch::ScalarType dtype = torch::kFloat32;
    std::int64_t elements = 0;
    std::uint64_t bytes = 0;
    std::optional<ZipEntry> entry;  ///< crc only in a zip
    bool has_crc = false;
    torch::Tensor tensor;  ///< once read
};
using Storages = std::map<std::string, StorageInfo>;

/// All storages that the pickle names, each once. One key means one type and one length.
Result<Storages> storages_of(const Pickle& pickle, std::uint64_t file_bytes) {
    Storages storages;
    for (const PickleValue& value : pickle.values) {
        if (value.kind != PickleKind::Storage) continue;
        const auto dtype = dtype_of(pickle.at(value.items.at(0)).text);
        if (!dtype) return bug_error("a storage type without dtype");
        const std::uint64_t size = c10::elementSize(*dtype);
        if (value.integer < 0 || static_cast<std::uint64_t>(value.integer) > file_bytes / size) {
            return damaged("a storage is longer than the file");
        }
        StorageInfo info{*dtype, value.integer, static_cast<std::uint64_t>(value.integer) * size, {}, false, {}};
        const auto [at, fresh] = storages.emplace(value.text, info);
        if (!fresh && (at->second.dtype != info.dtype || at->second.elements != info.elements)) {
            return damaged("a storage is described in two ways");
        }
    }
    return storages;
}

class Collector {
public:
    Collector(const WeightsFile& file, const Pickle& pickle, Storages storages, const CheckpointLimits& limits)
        : file_(file),
          pickle_(pickle),
          storages_(std::move(storages)),
          limits_(limits),
          budget_(4 * file.size() + kSpareBytes) {}

    Result<NamedTensors> collect() {
        PickleIndex root = pickle_.root;
        // {'model': {...}}: down to the dict that holds the tensors
        for (std::size_t depth = 0; depth < limits_.depth; ++depth) {
            auto inner = only_dict_with_tensors(root);
            if (!inner) return std::move(inner).error();
            if (!*inner) break;
            root = **inner;
        }
        const PickleKind kind = pickle_.at(root).kind;
        if (kind != PickleKind::Dict && kind != PickleKind::List && kind != PickleKind::Tuple) {
            return config_error("the checkpoint is no dict or list of tensors");
        }
        if (auto done = walk(root, "", 0); !done) return std::move(done).error();
        if (found_.empty()) return config_error("the checkpoint holds no tensor");
        return std::move(found_);
    }

private:
    /// Whether a tensor is at or under `index`; bounded like every walk here, as the values may form cycles.
    Result<bool> holds_tensor(PickleIndex index, std::size_t depth) {
        if (depth > limits_.depth) return config_error("the checkpoint's dicts lie too deep in one another");
        if (++visited_ > limits_.values_visited) return config_error("the checkpoint holds too many values");
        const PickleValue& value = pickle_.at(index);
        if (value.kind == PickleKind::Tensor) return true;
        const bool dict = value.kind == PickleKind::Dict;
        if (!dict && value.kind != PickleKind::List && value.kind != PickleKind::Tuple) return false;
        for (std::size_t i = dict ? 1 : 0; i < value.items.size(); i += dict ? 2 : 1) {
            auto inside = holds_tensor(value.items[i], depth + 1);
            if (!inside || *inside) return inside;
        }
        return false;
    }

    Result<std::optional<PickleIndex>> only_dict_with_tensors(PickleIndex index) {
        const PickleValue& value = pickle_.at(index);
        std::optional<PickleIndex> only;
        if (value.kind != PickleKind::Dict) return only;
        for (std::size_t i = 1; i < value.items.size(); i += 2) {
            auto inside = holds_tensor(value.items[i], 1);
            if (!inside) return std::move(inside).error();
            if (!*inside) continue;
            if (only || pickle_.at(value.items[i]).kind != PickleKind::Dict) return std::optional<PickleIndex>{};
            only = value.items[i];
        }
        return only;
    }

    Result<void> walk(PickleIndex index, const std::string& name, std::size_t depth) {
        if (depth > limits_.depth) return config_error("the checkpoint's dicts lie too deep in one another");
        if (++visited_ > limits_.values_visited) return config_error("the checkpoint holds too many values");
        const PickleValue& value = pickle_.at(index);
        if (value.kind == PickleKind::Tensor) return add(value, name);
        const bool dict = value.kind == PickleKind::Dict;
        if (!dict && value.kind != PickleKind::List && value.kind != PickleKind::Tuple) return {};
        const std::string prefix = name.empty() ? name : name + ".";
        for (std::size_t i = 0; i < value.items.size(); i += dict ? 2 : 1) {
            std::string key = std::to_string(i);
            if (dict) {
                const PickleValue& given = pickle_.at(value.items[i]);
                const bool text = given.kind == PickleKind::Text;
                if (!text && given.kind != PickleKind::Int) return config_error("a key is neither text nor number");
                key = text ? given.text : std::to_string(given.integer);
            }
            if (std::any_of(key.begin(), key.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; })) {
                return config_error("a tensor's name holds control characters");
            }
            if (prefix.size() + key.size() > limits_.name_bytes) return config_error("a tensor's name is too long");
            if (auto done = walk(value.items[dict ? i + 1 : i], prefix + key, depth + 1); !done) return done;
        }
        return {};
    }

    Result<void> add(const PickleValue& value, const std::string& name) {
        if (found_.size() >= limits_.tensors) return config_error("the checkpoint holds too many tensors");
        if (found_.count(name) != 0) return config_error("tensor '" + name + "' occurs twice");
        auto tensor = rebuild(value);
        if (!tensor) return std::move(tensor).error().in("tensor '" + name + "'");
        found_.emplace(name, *std::move(tensor));
        return {};
    }

    Result<torch::Tensor> rebuild(const PickleValue& value) {
        StorageInfo& storage = storages_.at(pickle_.at(value.items.at(0)).text);
        std::vector<std::int64_t> shape, strides;
        for (const PickleIndex i : pickle_.at(value.items.at(1)).items) shape.push_back(pickle_.at(i).integer);
        for (const PickleIndex i : pickle_.at(value.items.at(2)).items) strides.push_back(pickle_.at(i).integer);
        if (shape.size() != strides.size() || shape.size() > limits_.dimensions) return damaged("its shape");
        std::int64_t elements = 1, last = value.integer;
        bool sound = value.integer >= 0 && value.integer <= storage.elements;
        bool empty = std::count(shape.begin(), shape.end(), 0) > 0;
        for (std::size_t i = 0; sound && i < shape.size(); ++i) {
            std::int64_t reach = 0;
            sound = shape[i] >= 0 && strides[i] >= 0 && !__builtin_mul_overflow(elements, shape[i], &elements) &&
                    (empty || (!__builtin_mul_overflow(shape[i] - 1, strides[i], &reach) &&
                               !__builtin_add_overflow(last, reach, &last)));
        }
        if (!sound || (!empty && last >= storage.elements)) return damaged("it reaches beyond its storage");
        if (empty) return torch::empty(shape, torch::dtype(storage.dtype));
        const std::uint64_t size = c10::elementSize(storage.dtype);
        if (static_cast<std::uint64_t>(elements) > budget_ / size) {
            return config_error("the tensors would need far more memory than the file is long");
        }
        budget_ -= static_cast<std::uint64_t>(elements) * size;
        if (auto done = load(storage); !done) return std::move(done).error();
        return storage.tensor.as_strided(shape, strides, value.integer).clone(torch::MemoryFormat::Contiguous);
    }

    Result<void> load(StorageInfo& storage) {
        if (storage.tensor.defined()) return {};
        if (!storage.entry) return damaged("its data is missing");
        torch::Tensor tensor = torch::empty({storage.elements}, torch::dtype(storage.dtype));
        if (auto done = file_.read(tensor.data_ptr(), storage.bytes, storage.entry->begin); !done) return done;
        if (storage.has_crc && crc32_of(tensor.data_ptr(), storage.bytes) != storage.entry->crc) {
            return damaged("its data does not match its checksum");
        }
        if (storage.dtype == torch::kBool) {
            const auto* byte = static_cast<const unsigned char*>(tensor.data_ptr());
            if (std::any_of(byte, byte + storage.bytes, [](unsigned char b) { return b > 1; })) {
                return damaged("a truth value is neither 0 nor 1");
            }
        }
        storage.tensor = std::move(tensor);
        return {};
    }

    const WeightsFile& file_;
    const Pickle& pickle_;
    Storages storages_;
    const CheckpointLimits& limits_;
    std::uint64_t budget_;
    std::size_t visited_ = 0;
    NamedTensors found_;
};

Result<NamedTensors> read_zip(const WeightsFile& file, const CheckpointLimits& limits) {
    auto entries = read_zip_directory(file);
    if (!entries) return std::move(entries).error();
    std::string folder;
    const ZipEntry* pickled = nullptr;
    for (const auto& [name, entry] : *entries) {
        const std::size_t slash = name.find('/');
        if (slash == std::string::npos || name.substr(slash) != "/data.pkl") continue;
        if (pickled != nullptr) return damaged("it holds two pickles");
        pickled = &entry;
        folder = name.substr(0, slash + 1);
    }
    if (pickled == nullptr) return config_error("the zip archive holds no data.pkl, so torch.save did not write it");
    if (pickled->bytes > kPickleLimit) return config_error("the checkpoint's pickle is too long");
    if (const auto order = entries->find(folder + "byteorder"); order != entries->end()) {
        auto text = file.text(std::min<std::uint64_t>(order->second.bytes, 16), order->second.begin);
        if (!text) return std::move(text).error();
        if (*text != "little") return config_error("the checkpoint was written on a big-endian computer");
    }
    auto bytes = file.text(pickled->bytes, pickled->begin);
    if (!bytes) return std::move(bytes).error();
    if (crc32_of(bytes->data(), bytes->size()) != pickled->crc)
        return damaged("its pickle does not match its checksum");
    auto pickle = read_pickle(*bytes);
    if (!pickle) return std::move(pickle).error();
    auto storages = storages_of(*pickle, file.size());
    if (!storages) return std::move(storages).error();
    for (auto& [key, storage] : *storages) {
        const auto entry = entries->find(folder + "data/" + key);
        if (entry == entries->end()) return damaged("the data of a storage is missing");
        if (entry->second.bytes != storage.bytes) return damaged("a storage is not as long as the pickle says");
        storage.entry = entry->second;
        storage.has_crc = true;
    }
    return Collector(file, *pickle, *std::move(storages), limits).collect();
}

/// Before PyTorch 1.6: magic number, protocol 1001, facts about the computer, the object, the storages' keys: five
/// pickles in a row; then each storage in the keys' order: u64 elements, data.
Result<NamedTensors> read_legacy(const WeightsFile& file, const CheckpointLimits& limits) {
    auto head = file.text(std::min(file.size(), kPickleLimit), 0);
    if (!head) return std::move(head).error();
    std::uint64_t at = 0;
    std::vector<Pickle> pickles;
    for (int i = 0; i < 5; ++i) {
        auto pickle = read_pickle(std::string_view(*head).substr(at));
        if (!pickle) return std::move(pickle).error();
        at += pickle->bytes;
        const PickleValue& root = pickle->at(pickle->root);
        if (i == 0 && (root.kind != PickleKind::Long || root.text != kLegacyMagic)) {
            return config_error("a pickle, but none that torch.save wrote");
        }
        if (i == 1 && (root.kind != PickleKind::Int || root.integer != 1001)) {
            return config_error("an unknown version of the old form of checkpoints");
        }
        for (std::size_t k = 0; i == 2 && root.kind == PickleKind::Dict && k < root.items.size(); k += 2) {
            if (pickle->at(root.items[k]).text == "little_endian" && pickle->at(root.items[k + 1]).integer == 0) {
                return config_error("the checkpoint was written on a big-endian computer");
            }
        }
        pickles.push_back(*std::move(pickle));
    }
    const Pickle& object = pickles[3];
    auto storages = storages_of(object, file.size());
    if (!storages) return std::move(storages).error();
    const PickleValue& keys = pickles[4].at(pickles[4].root);
    if (keys.kind != PickleKind::List) return damaged("the list of its storages");
    for (const PickleIndex index : keys.items) {
        const PickleValue& key = pickles[4].at(index);
        const auto storage = storages->find(key.text);
        if (key.kind != PickleKind::Text || storage == storages->end() || storage->second.entry) {
            return damaged("the list of its storages");
        }
        std::uint64_t elements = 0;
        if (auto done = file.read(&elements, 8, at); !done) return std::move(done).error();
        at += 8;
        if (elements != static_cast<std::uint64_t>(storage->second.elements)) {
            return damaged("a storage is not as long as the pickle says");
        }
        if (storage->second.bytes > file.size() - at) return config_error("the file ends too early");
        storage->second.entry = ZipEntry{at, storage->second.bytes, 0};
        at += storage->second.bytes;
    }
    if (at != file.size()) return damaged("something follows its end");
    return Collector(file, object, *std::move(storages), limits).collect();
}

Result<NamedTensors> read_any(const std::filesystem::path& path, const CheckpointLimits& limits) {
    auto file = WeightsFile::open(path);
    if (!file) return std::move(file).error();
    if (file->size() > limits.file_bytes) return config_error("larger than the limit for weights");
    auto start = file->text(std::min<std::uint64_t>(file->size(), 4), 0);
    if (!start) return std::move(start).error();
    if (*start == "PK\x03\x04") return read_zip(*file, limits);
    if (!start->empty() && static_cast<unsigned char>(start->front()) == 0x80) return read_legacy(*file, limits);
    return config_error("not a checkpoint of torch.save");
}

}  // namespace

Result<NamedTensors> read_checkpoint(const std::filesystem::path& file, const CheckpointLimits& limits) {
    try {
        auto read = read_any(file, limits);
        if (!read) return std::move(read).error().in("reading " + file.string());
        return read;
    } catch (const c10::Error& error) {
        return retry_error("reading " + file.string() + ": " + error.what_without_backtrace());
    } catch (const std::bad_alloc&) {
        return retry_error("reading " + file.string() + ": not enough memory");
    } catch (const std::exception& error) {
        return bug_error("reading " + file.string() + ": " + error.what());
    }
}

Result<NamedTensors> read_weights(const std::filesystem::path& path) {
    {
        auto file = WeightsFile::open(path);
        if (!file) return std::move(file).error().in("reading " + path.string());
        auto start = file->text(std::min<std::uint64_t>(file->size(), 4), 0);
        if (!start) return std::move(start).error().in("reading " + path.string());
        // A safetensors file starts with the length of its header: in these forms it would be 67 MB or more.
        const bool legacy = start->size() == 4 && (*start)[0] == '\x80' && start->substr(2) == "\x8a\x0a";
        if (*start == "PK\x03\x04" || legacy) return read_checkpoint(path);
    }
    auto stored = read_safetensors(path);
    if (!stored) return std::move(stored).error();
    return std::move(stored->tensors);
}

}  // namespace cardionode
