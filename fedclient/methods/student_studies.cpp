#include "fedclient/methods/student_studies.h"

#include <algorithm>
#include <set>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "fedclient/methods/round_training.h"
#include "models/train/pseudo_labels.h"
#include "models/train/pseudo_labels_files.h"
#include "models/train/study_file.h"
#include "models/train/study_source.h"
#include "models/train/teacher.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;
using train::StudyFile;

struct Found {
    fs::path file;
    std::string hash;
    bool people = false;  ///< gave a label of the recipe's heads
};

/// The studies that may be trained on, those with people's labels first, then by hash; the first `most`.
Result<std::vector<Found>> studies_of(const StudentStudies& wanted) {
    const train::Recipe& recipe = wanted.recipe;
    std::vector<Found> found;
    std::error_code code;
    for (auto it = fs::directory_iterator(recipe.data.studies, code); !code && it != fs::directory_iterator();
         it.increment(code)) {
        if (it->path().extension() != ".safetensors") continue;
        Result<StudyFile> file = StudyFile::open(it->path());
        if (!file) return std::move(file).error().in("data.studies");
        const train::StudyFacts& facts = file->facts();
        if (facts.input != train::input_words(recipe.input))
            return config_error(it->path().string() + " was prepared for another input (" + facts.input + ")");
        if (train::is_held_out(facts.patient_hash, recipe.data.holdout, recipe.data.split_seed)) continue;
        const bool people = std::any_of(recipe.heads.begin(), recipe.heads.end(), [&](const auto& h) {
            return std::find(facts.heads.begin(), facts.heads.end(), h.name) != facts.heads.end();
        });
        found.push_back({it->path(), facts.study_hash, people});
    }
    if (code) return config_error("data.studies: " + recipe.data.studies.string() + ": " + code.message());
    std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
        return std::tuple(!a.people, a.hash, a.file) < std::tuple(!b.people, b.hash, b.file);
    });
    if (static_cast<std::int64_t>(found.size()) > wanted.most_studies)
        found.resize(static_cast<std::size_t>(wanted.most_studies));
    return found;
}

Result<std::vector<train::Teacher>> teachers_of(const StudentStudies& wanted) {
    if (wanted.teachers.empty()) return config_error("fedkd_student: there is no teacher");
    Result<train::Recipe> recipe = train::load_recipe(wanted.teacher_recipe);
    if (!recipe) return std::move(recipe).error();
    if (train::input_words(recipe->input) != train::input_words(wanted.recipe.input))
        return config_error("fedkd_student: the teachers' recipe is for another input than the student's");
    std::vector<train::Teacher> teachers;
    for (const auto& [head, file] : wanted.teachers) {
        const auto asked = std::find_if(wanted.recipe.heads.begin(), wanted.recipe.heads.end(),
                                        [&, name = head](const auto& h) { return h.name == name; });
        Result<train::Recipe> one = train::recipe_for_head(*recipe, head);
        if (!one) return std::move(one).error().in("the teacher of " + head);
        if (asked == wanted.recipe.heads.end() || asked->classes != one->heads.front().classes)
            return config_error("fedkd_student: the student has no head " + head +
                                " of as many classes as the teacher");
        Result<std::shared_ptr<Network>> network = network_with(*one, file, wanted.device);
        if (!network) return std::move(network).error().in("the teacher of " + head);
        WindowManifest window;
        for (std::size_t axis = 0; axis < 3; ++axis) window.size[axis] = one->window[axis];
        Result<train::Teacher> teacher =
            train::make_teacher(*std::move(network), train::pseudo_heads(*one), window, one->precision);
        if (!teacher) return std::move(teacher).error();
        teachers.push_back(*std::move(teacher));
    }
    return teachers;
}

std::string name_of(const std::string& study_hash, bool people) {
    return (people ? "people-" : "teachers-") + study_hash + ".safetensors";
}

/// Another round's files go; half-written ones are never seen, they have other names.
Result<void> open_folder(const fs::path& folder, const std::string& mark) {
    const fs::path file = folder / "teachers.txt";
    if (const Result<std::string> before = read_file(file); before.ok() && *before == mark) return {};
    std::error_code trouble;
    fs::remove_all(folder, trouble);
    if (trouble) return config_error("removing " + folder.string() + ": " + trouble.message());
    if (Result<void> made = make_folder(folder); !made) return made;
    return write_file_durably(file, mark);
}

Result<void> write_joined(const fs::path& original, const fs::path& target, const train::Sample& sample,
                          const std::vector<train::HeadRecipe>& heads) {
    Result<StudyFile> file = StudyFile::open(original);
    if (!file) return std::move(file).error();
    train::Study study;
    study.facts = file->facts();
    Result<std::vector<float>> image = file->image({0, 0, 0}, study.facts.size, 0);
    if (!image) return std::move(image).error();
    study.image = *std::move(image);
    for (const train::HeadRecipe& head : heads) {
        const auto label = sample.targets.find(head.name);
        if (label == sample.targets.end()) continue;
        const torch::Tensor bytes = label->second.to(torch::kByte).contiguous();
        const auto* first = bytes.data_ptr<std::uint8_t>();
        study.labels[head.name].assign(first, first + bytes.numel());
    }
    if (study.labels.empty()) return {};
    return train::write_study(target, std::move(study), true);
}

}  // namespace

Result<StudentFolder> label_studies(const StudentStudies& wanted) {
    Result<std::vector<Found>> all = studies_of(wanted);
    if (!all) return std::move(all).error();
    if (all->empty()) return reject_error("there is no study to label");
    Result<std::vector<train::Teacher>> teachers = teachers_of(wanted);
    if (!teachers) return std::move(teachers).error();
    std::string mark = "students 1\n";
    for (const train::Teacher& teacher : *teachers) mark += teacher.hash + "\n";
    for (const train::HeadRecipe& h : wanted.recipe.heads) mark += h.name + " " + std::to_string(h.classes) + "\n";
    StudentFolder result;
    result.folder = wanted.work / "students";
    if (Result<void> opened = open_folder(result.folder, mark); !opened) return opened.error();

    std::set<fs::path> current = {result.folder / "teachers.txt"};
    std::vector<Found> missing;
    std::error_code no_matter;
    for (const Found& found : *all) {
        const fs::path target = result.folder / name_of(found.hash, found.people);
        // A label that came since makes the study another one; the file's time says so.
        const bool there = fs::exists(target, no_matter) &&
                           fs::last_write_time(target, no_matter) >= fs::last_write_time(found.file, no_matter);
        current.insert(target);
        if (!there) missing.push_back(found);
    }
    std::vector<fs::path> gone;  // studies that are no longer there must not be learned from
    for (const auto& entry : fs::directory_iterator(result.folder, no_matter)) {
        if (!current.count(entry.path())) gone.push_back(entry.path());
    }
    for (const fs::path& file : gone) fs::remove(file, no_matter);

    Result<train::PseudoLabelCache> cache = train::PseudoLabelCache::open(wanted.work / "answers", wanted.cache_bytes);
    if (!cache) return std::move(cache).error();
    std::vector<fs::path> files;
    for (const Found& found : missing) files.push_back(found.file);
    Result<train::PseudoLabelReport> report = train::make_pseudo_labels(
        *teachers, train::StudyFilesToLabel(files), &*cache, {},
        [&](std::size_t i, train::Sample sample) -> Result<void> {
            const Found& found = missing[i];
            if (Result<void> written = write_joined(found.file, result.folder / name_of(found.hash, found.people),
                                                    sample, wanted.recipe.heads);
                !written)
                return written;
            if (wanted.stop && wanted.stop()) return retry_error("stopped while the teachers label the studies");
            return {};
        });
    if (!report) return std::move(report).error();
    if (wanted.print && !missing.empty()) wanted.print(report->summary());
    for (const Found& found : *all) {
        if (!fs::exists(result.folder / name_of(found.hash, found.people), no_matter)) continue;
        ++result.studies;
        result.without_people += !found.people;
    }
    if (result.studies == 0) return reject_error("the teachers could label no study");
    return result;
}

}  // namespace cardionode::fed
