// Instances that tests send: the bytes of a data set with what its file meta information says, never parsed further.
//
// Thread safety: values. Errors: throws std::runtime_error, which fails the test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace cardionode::test {

/// One instance: what its file meta information says, and the bytes of its data set.
struct Instance {
    std::string sop_class_uid;
    std::string sop_instance_uid;
    std::string transfer_syntax_uid;
    std::vector<std::uint8_t> dataset;
};

/// Reads the file meta information only; the data set may be broken.
Instance read_instance(const std::filesystem::path& file);
/// The files of a folder by name.
std::vector<Instance> read_instances(const std::filesystem::path& folder);
/// The instance as a Part 10 file, with its data set unchanged.
void write_instance(const Instance& instance, const std::filesystem::path& file);

/// The same images as another study: every UID that begins with 2.25. gets other last digits, of the same length.
/// @param number  1..999; the same number gives the same study again
std::vector<Instance> as_other_study(const std::vector<Instance>& instances, int number);

/// A Basic Text SR without content in a study of its own: an instance that is no CT.
Instance make_report(const std::string& study_instance_uid);

/// The CTA series of this project, unpacked into a folder of the build tree once.
std::filesystem::path cta_folder();
std::vector<Instance> cta();

}  // namespace cardionode::test
