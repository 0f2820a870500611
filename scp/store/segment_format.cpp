#include "scp/store/segment_format.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <zlib.h>
#include <nlohmann/json.hpp>

#include "conf/base/hash.h"

namespace cardionode {
namespace {

constexpr std::string_view kMagic = "CNRECORD";
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kTagAt = 40;
constexpr std::size_t kCrcAt = 72;
constexpr std::size_t kMetadataAt = 80;

void put(RecordBlock& block, std::size_t at, std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i)
        block[at + static_cast<std::size_t>(i)] = static_cast<std::byte>(value >> (8 * i) & 0xff);
}

std::uint64_t get(const RecordBlock& block, std::size_t at, int bytes) {
    std::uint64_t value = 0;
    for (int i = bytes; i-- > 0;)
        value = value << 8 | std::to_integer<std::uint64_t>(block[at + static_cast<std::size_t>(i)]);
    return value;
}

std::uint32_t crc_of(RecordBlock block) {
    put(block, kCrcAt, 0, 4);
    return static_cast<std::uint32_t>(
        ::crc32(::crc32(0, nullptr, 0), reinterpret_cast<const Bytef*>(block.data()), static_cast<uInt>(block.size())));
}

std::string metadata_of(const ReceivedInstance& instance) {
    const nlohmann::json json = {
        {"study", instance.study_instance_uid},   {"series", instance.series_instance_uid},
        {"instance", instance.sop_instance_uid},  {"class", instance.sop_class_uid},
        {"syntax", instance.transfer_syntax_uid}, {"modality", instance.modality},
        {"calling", instance.calling_ae_title},   {"called", instance.called_ae_title},
        {"peer", instance.peer_address},          {"received_ms", instance.received_at.time_since_epoch().count()},
        {"patient", instance.patient_mark},
    };
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// none: not what we wrote.
std::optional<ReceivedInstance> instance_of(std::string_view metadata) {
    const auto json = nlohmann::json::parse(metadata, nullptr, false);
    if (!json.is_object()) return std::nullopt;
    ReceivedInstance instance;
    const auto text = [&](const char* key, std::string& target) {
        const auto found = json.find(key);
        if (found == json.end() || !found->is_string()) return false;
        target = found->get<std::string>();
        return true;
    };
    const auto received = json.find("received_ms");
    if (received == json.end() || !received->is_number_integer()) return std::nullopt;
    instance.received_at = Moment(Milliseconds(received->get<std::int64_t>()));
    const bool whole = text("study", instance.study_instance_uid) && text("series", instance.series_instance_uid) &&
                       text("instance", instance.sop_instance_uid) && text("class", instance.sop_class_uid) &&
                       text("syntax", instance.transfer_syntax_uid) && text("modality", instance.modality) &&
                       text("calling", instance.calling_ae_title) && text("called", instance.called_ae_title) &&
                       text("peer", instance.peer_address);
    if (!whole) return std::nullopt;
    text("patient", instance.patient_mark);  // absent in what an earlier version left behind
    return instance;
}

}  // namespace

std::string segment_name(std::int64_t begun_ns, const SegmentKey& key) {
    return fmt::format("{}-{}.seg", begun_ns, to_hex(key));
}

std::optional<SegmentKey> segment_key(const std::filesystem::path& file) {
    const std::string name = file.stem().string();
    const auto dash = name.find('-');
    SegmentKey key{};
    if (dash == std::string::npos || name.size() != dash + 1 + 2 * key.size()) return std::nullopt;
    for (std::size_t i = 0; i < 2 * key.size(); ++i) {
        const char c = name[dash + 1 + i];
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return std::nullopt;
        key[i / 2] = key[i / 2] << 4 | static_cast<std::byte>(digit);
    }
    return key;
}

std::uint64_t segment_id(const SegmentKey& key) {
    std::uint64_t id = 0;
    for (std::size_t i = 0; i < 8; ++i) id = id << 8 | std::to_integer<std::uint64_t>(key[i]);
    return id;
}

Result<RecordBlock> write_header(const RecordHeader& header) {
    const std::string metadata = metadata_of(header.instance);
    if (metadata.size() > kRecordBlock - kMetadataAt) return reject_error("the metadata of the instance are too long");
    RecordBlock block{};
    std::memcpy(block.data(), kMagic.data(), kMagic.size());
    put(block, 8, kVersion, 4);
    put(block, 12, metadata.size(), 4);
    put(block, 16, header.data_bytes, 8);
    put(block, 24, header.segment_id, 8);
    put(block, 32, header.number, 8);
    std::ranges::copy(header.tag, block.begin() + kTagAt);
    std::memcpy(block.data() + kMetadataAt, metadata.data(), metadata.size());
    put(block, kCrcAt, crc_of(block), 4);
    return block;
}

/// The id decides: a data set may hold anything but that.
bool begins_record(const RecordBlock& block, std::uint64_t segment_id) {
    return std::memcmp(block.data(), kMagic.data(), kMagic.size()) == 0 && get(block, 24, 8) == segment_id;
}

Result<std::optional<RecordHeader>> read_header(const RecordBlock& block, std::uint64_t segment_id) {
    const std::optional<RecordHeader> none;
    if (!begins_record(block, segment_id) || get(block, kCrcAt, 4) != crc_of(block)) return none;
    if (get(block, 8, 4) != kVersion) return config_error("it was written by another version of this program");
    RecordHeader header;
    const std::uint64_t metadata_bytes = get(block, 12, 4);
    if (metadata_bytes > kRecordBlock - kMetadataAt) return none;
    auto instance = instance_of({reinterpret_cast<const char*>(block.data()) + kMetadataAt, metadata_bytes});
    if (!instance) return none;
    header.instance = std::move(*instance);
    header.data_bytes = get(block, 16, 8);
    header.segment_id = segment_id;
    header.number = get(block, 32, 8);
    std::copy_n(block.begin() + kTagAt, header.tag.size(), header.tag.begin());
    return std::optional<RecordHeader>(std::move(header));
}

}  // namespace cardionode
