#include "tests/support/instance.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>

#include "tests/support/process.h"

namespace cardionode::test {
namespace {

using Bytes = std::vector<std::uint8_t>;

void le16(Bytes& b, std::size_t v) {
    b.push_back(static_cast<std::uint8_t>(v));
    b.push_back(static_cast<std::uint8_t>(v >> 8));
}
void le32(Bytes& b, std::size_t v) {
    le16(b, v & 0xffff);
    le16(b, v >> 16);
}
void add(Bytes& b, const std::string& text) { b.insert(b.end(), text.begin(), text.end()); }
std::size_t read_le(const Bytes& b, std::size_t at, int bytes) {
    std::size_t v = 0;
    for (int i = bytes - 1; i >= 0; --i) v = v << 8 | b.at(at + i);
    return v;
}
std::string text_of_value(const Bytes& b, std::size_t at, std::size_t size) {
    std::string text(b.begin() + at, b.begin() + at + size);
    while (!text.empty() && (text.back() == '\0' || text.back() == ' ')) text.pop_back();
    return text;
}

}  // namespace

Instance read_instance(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    const Bytes b((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    if (b.size() < 144 || std::memcmp(b.data() + 128, "DICM", 4) != 0) {
        throw std::runtime_error("no Part 10 file: " + file.string());
    }
    Instance instance;
    std::size_t at = 132;
    std::size_t end = b.size();
    while (at + 8 <= end && read_le(b, at, 2) == 2) {
        const std::size_t element = read_le(b, at + 2, 2);
        const std::string vr(b.begin() + at + 4, b.begin() + at + 6);
        const bool is_long = vr == "OB" || vr == "UN" || vr == "OW" || vr == "SQ" || vr == "UT";
        const std::size_t size = is_long ? read_le(b, at + 8, 4) : read_le(b, at + 6, 2);
        const std::size_t value = at + (is_long ? 12 : 8);
        if (value + size > b.size()) throw std::runtime_error("cut file meta information: " + file.string());
        if (element == 0x0000) end = std::min(b.size(), value + 4 + read_le(b, value, 4));
        if (element == 0x0002) instance.sop_class_uid = text_of_value(b, value, size);
        if (element == 0x0003) instance.sop_instance_uid = text_of_value(b, value, size);
        if (element == 0x0010) instance.transfer_syntax_uid = text_of_value(b, value, size);
        at = value + size;
    }
    instance.dataset.assign(b.begin() + at, b.end());
    return instance;
}

std::vector<Instance> read_instances(const std::filesystem::path& folder) {
    std::set<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.is_regular_file() && entry.path().filename() != "LICENSE") files.insert(entry.path());
    }
    std::vector<Instance> instances;
    for (const auto& file : files) instances.push_back(read_instance(file));
    if (instances.empty()) throw std::runtime_error("no DICOM file in " + folder.string());
    return instances;
}

void write_instance(const Instance& instance, const std::filesystem::path& file) {
    Bytes meta;
    const auto uid_element = [&meta](int element, const std::string& uid) {
        le16(meta, 2);
        le16(meta, element);
        add(meta, std::string("UI"));
        const std::string value = uid.size() % 2 ? uid + '\0' : uid;
        le16(meta, value.size());
        add(meta, value);
    };
    uid_element(0x0002, instance.sop_class_uid);
    uid_element(0x0003, instance.sop_instance_uid);
    uid_element(0x0010, instance.transfer_syntax_uid);
    Bytes b(128, 0);
    add(b, std::string("DICM"));
    le16(b, 2);
    le16(b, 0);
    add(b, std::string("UL"));
    le16(b, 4);
    le32(b, meta.size());
    b.insert(b.end(), meta.begin(), meta.end());
    b.insert(b.end(), instance.dataset.begin(), instance.dataset.end());
    std::ofstream out(file, std::ios::binary);
    out.write(reinterpret_cast<const char*>(b.data()), static_cast<std::streamsize>(b.size()));
    if (!out) throw std::runtime_error("cannot write " + file.string());
}

std::vector<Instance> as_other_study(const std::vector<Instance>& instances, int number) {
    const auto changed = [number](std::string uid) {
        const std::string digits = std::to_string(1000 + number).substr(1);  // three digits
        if (uid.rfind("2.25.", 0) == 0 && uid.size() > 20) uid.replace(uid.size() - 3, 3, digits);
        return uid;
    };
    std::vector<Instance> others = instances;
    for (Instance& instance : others) {
        const std::string mark = "2.25.";
        auto at = instance.dataset.begin();
        while ((at = std::search(at, instance.dataset.end(), mark.begin(), mark.end())) != instance.dataset.end()) {
            auto end = at;
            while (end != instance.dataset.end() && ((*end >= '0' && *end <= '9') || *end == '.')) ++end;
            const std::string uid = changed(std::string(at, end));
            std::copy(uid.begin(), uid.end(), at);
            at = end;
        }
        instance.sop_instance_uid = changed(instance.sop_instance_uid);
    }
    return others;
}

Instance make_report(const std::string& study_instance_uid) {
    Instance report;
    report.sop_class_uid = "1.2.840.10008.5.1.4.1.1.88.33";  // Comprehensive SR
    report.sop_instance_uid = study_instance_uid + ".2";
    report.transfer_syntax_uid = "1.2.840.10008.1.2.1";
    const auto element = [&report](int group, int number, const std::string& vr, const std::string& text) {
        const bool odd = text.size() % 2 != 0;
        le16(report.dataset, group);
        le16(report.dataset, number);
        add(report.dataset, vr);
        le16(report.dataset, text.size() + (odd ? 1 : 0));
        add(report.dataset, text);
        if (odd) report.dataset.push_back(vr == "UI" ? '\0' : ' ');
    };
    element(0x0008, 0x0016, "UI", report.sop_class_uid);
    element(0x0008, 0x0018, "UI", report.sop_instance_uid);
    element(0x0008, 0x0020, "DA", "20240101");
    element(0x0008, 0x0060, "CS", "SR");
    element(0x0010, 0x0010, "PN", "Nobody^Test");
    element(0x0010, 0x0020, "LO", "TEST");
    element(0x0020, 0x000d, "UI", study_instance_uid);
    element(0x0020, 0x000e, "UI", study_instance_uid + ".1");
    return report;
}

std::filesystem::path cta_folder() {
    const std::filesystem::path data = std::filesystem::path(CARDIONODE_BINARY_DIR) / ".." / "test-data";
    std::filesystem::create_directories(data);
    const std::string lock_file = (data / "lock").string();
    const int lock = ::open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock < 0 || ::flock(lock, LOCK_EX) != 0) throw std::runtime_error("cannot lock " + lock_file);
    const std::filesystem::path done = data / "cta.unpacked";
    if (!std::filesystem::exists(done)) {  // tests run side by side: one of them unpacks
        const Finished tar = run(
            {"tar", "-xJf", std::string(CARDIONODE_SOURCE_DIR) + "/tests/data/cta/cta.tar.xz", "-C", data.string()});
        if (!tar.ok()) throw std::runtime_error("tar: " + tar.errors);
        std::ofstream(done) << "whole\n";
    }
    ::close(lock);
    return data / "cta";
}

std::vector<Instance> cta() { return read_instances(cta_folder()); }

}  // namespace cardionode::test
