#include "fedclient/methods/local_round.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <set>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "fedclient/methods/cpu_threads.h"
#include "fedclient/methods/local_validation.h"
#include "fedclient/methods/round_training.h"
#include "fedclient/methods/student_studies.h"
#include "models/device.h"
#include "models/train/study_source.h"
#include "models/train/teacher.h"

namespace cardionode::fed {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;
using train::StudySource;

/// What decides the result of a round: a work folder goes on only with the same.
Result<std::string> identity_of(const LocalRound& r) {
    const RoundPlan& p = r.plan;
    json j = {{"method", to_string(p.method)},
              {"model", p.model_id},
              {"round", p.round},
              {"heads", p.heads},
              {"steps", p.steps},
              {"rate", p.learning_rate},
              {"mu", p.proximal_mu},
              {"seed", p.seed},
              {"most", r.most_studies}};
    std::map<std::string, fs::path> files = {{"recipe", r.recipe}, {"pulled", r.pulled}};
    if (p.method == Method::FedKdStudent) {
        files["teacher_recipe"] = r.teacher_recipe;
        for (const auto& [head, file] : r.teachers) files["teacher " + head] = file;
    }
    for (const auto& [what, file] : files) {
        Result<std::string> hash = sha256_of_file(file);
        if (!hash) return std::move(hash).error().in(what);
        j["files"][what] = *hash;
    }
    return sha256_hex(j.dump());
}

/// The recipe as this method trains it. Config: the plan does not fit it.
Result<train::Recipe> recipe_for(const RoundPlan& plan, const fs::path& file) {
    Result<train::Recipe> recipe = train::load_recipe(file);
    if (!recipe) return recipe;
    if (recipe->data.studies.empty()) return config_error(file.string() + ": data.studies is missing");
    if (plan.steps < 1) return config_error("the round's plan: steps must be 1 or more");
    if (!(plan.proximal_mu >= 0) || !(plan.learning_rate >= 0))
        return config_error("the round's plan: a negative learning_rate or proximal_mu");
    for (const std::string& head : plan.heads) {
        if (std::none_of(recipe->heads.begin(), recipe->heads.end(), [&](const auto& h) { return h.name == head; }))
            return config_error("the round's plan: the recipe has no head " + head);
    }
    if (plan.method != Method::FedKdTeacher) return recipe;
    const std::string only = plan.heads.size() == 1                            ? plan.heads.front()
                             : plan.heads.empty() && recipe->heads.size() == 1 ? recipe->heads.front().name
                                                                               : std::string();
    if (only.empty()) return config_error("the round's plan: fedkd_teacher is for one head");
    return train::recipe_for_head(*recipe, only);
}

/// The studies as a source of windows sees only the heads that learn: one that has none of them would cost a step.
train::Recipe source_recipe(const train::Recipe& recipe, const RoundPlan& plan) {
    train::Recipe source = recipe;
    source.seed = plan.seed;
    if (!plan.heads.empty()) {
        std::erase_if(source.heads, [&](const train::HeadRecipe& h) {
            // Windows round the root are placed by these points, whether they are learned or not.
            if (source.placement == "root" && h.name == "hps") return false;
            return std::find(plan.heads.begin(), plan.heads.end(), h.name) == plan.heads.end();
        });
    }
    return source;
}

json to_json(const Validation& v) { return {{"dice", v.dice}, {"point_mm", v.point_mm}, {"studies", v.studies}}; }

Validation validation_from(const json& j) {
    Validation v;
    v.dice = j.at("dice").get<std::map<std::string, double>>();
    v.point_mm = j.at("point_mm").get<std::map<std::string, double>>();
    v.studies = j.at("studies").get<std::int64_t>();
    return v;
}

json to_json(const LocalResult& r) {
    return {{"labelled", r.labelled},
            {"unlabelled", r.unlabelled},
            {"patients", r.patients},
            {"steps", r.steps},
            {"loss", r.loss},
            {"seconds", r.seconds},
            {"before", to_json(r.before)},
            {"after", to_json(r.after)}};
}

LocalResult result_from(const json& j) {
    LocalResult r;
    r.labelled = j.at("labelled").get<std::map<std::string, std::int64_t>>();
    r.unlabelled = j.at("unlabelled").get<std::int64_t>();
    r.patients = j.at("patients").get<std::int64_t>();
    r.steps = j.at("steps").get<std::int64_t>();
    r.loss = j.at("loss").get<double>();
    r.seconds = j.at("seconds").get<double>();
    r.before = validation_from(j.at("before"));
    r.after = validation_from(j.at("after"));
    return r;
}

/// The work folder's memory of its round: {"identity", "before"?, "result"?}.
class Memory {
public:
    explicit Memory(const fs::path& folder) : file_(folder / "round.json") {}
    /// Begins anew, without the files of another round, unless the folder holds this one.
    Result<void> open(const std::string& identity, const std::vector<fs::path>& files) {
        if (const Result<std::string> text = read_file(file_); text.ok()) {
            json kept = json::parse(*text, nullptr, false);
            if (kept.is_object() && kept.value("identity", std::string()) == identity) {
                data_ = std::move(kept);
                return {};
            }
        }
        for (const fs::path& file : files) {
            std::error_code trouble;
            fs::remove(file, trouble);
            if (trouble) return config_error("removing " + file.string() + ": " + trouble.message());
        }
        data_ = {{"identity", identity}};
        return save();
    }
    const json* find(const char* key) const { return data_.contains(key) ? &data_.at(key) : nullptr; }
    Result<void> put(const char* key, json value) {
        data_[key] = std::move(value);
        return save();
    }

private:
    Result<void> save() const { return write_file_durably(file_, data_.dump(1)); }
    fs::path file_;
    json data_;
};

/// Counts what a source is labelled for. @param own  heads that people labelled, by study; none: all labels are theirs
void count_labels(const StudySource& source, const train::Recipe& recipe, const RoundPlan& plan, LocalResult& result) {
    for (const train::HeadRecipe& h : recipe.heads) {
        std::int64_t& n = result.labelled[h.name];
        if (!plan.heads.empty() && std::find(plan.heads.begin(), plan.heads.end(), h.name) == plan.heads.end())
            continue;
        for (std::size_t i = 0; i < source.size(); ++i) {
            const auto& heads = source.study(i).facts().heads;
            n += std::find(heads.begin(), heads.end(), h.name) != heads.end();
        }
    }
    result.patients = static_cast<std::int64_t>(source.patients());
}

class Round {
public:
    explicit Round(const LocalRound& call)
        : call_(call),
          memory_(call.work),
          checkpoint_(call.work / "checkpoint.safetensors"),
          trained_(call.work / "trained.safetensors") {}

    Result<LocalResult> run() {
        const auto begun = std::chrono::steady_clock::now();
        Result<train::Recipe> recipe = recipe_for(call_.plan, call_.recipe);
        if (!recipe) return std::move(recipe).error();
        Result<torch::Device> device = device_from(call_.device);
        if (!device) return std::move(device).error();
        if (Result<void> set = set_threads(call_.threads); !set) return set.error();
        if (Result<void> made = make_folder(call_.work); !made) return made.error();
        Result<std::string> identity = identity_of(call_);
        if (!identity) return std::move(identity).error();
        if (Result<void> opened = memory_.open(*identity, {checkpoint_, trained_}); !opened) return opened.error();
        std::error_code no_matter;
        if (const json* done = memory_.find("result"); done != nullptr && fs::exists(trained_, no_matter)) {
            print("this round is done already");
            LocalResult result = result_from(*done);
            result.trained = trained_;
            return result;
        }
        LocalResult result;
        if (const json* before = memory_.find("before")) {
            result.before = validation_from(*before);
        } else {
            Result<Validation> validation = validate_on_holdout(*recipe, call_.pulled, *device);
            if (!validation) return std::move(validation).error().in("validating the pulled weights");
            result.before = *std::move(validation);
            if (Result<void> kept = memory_.put("before", to_json(result.before)); !kept) return kept.error();
        }
        if (call_.stop && call_.stop()) return retry_error("stopped before the training");
        if (Result<void> learned = learn(*recipe, *device, result); !learned) return learned.error();
        Result<Validation> after = validate_on_holdout(*recipe, trained_, *device);
        if (!after) return std::move(after).error().in("validating the trained weights");
        result.after = *std::move(after);
        result.trained = trained_;
        result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
        if (Result<void> kept = memory_.put("result", to_json(result)); !kept) return kept.error();
        fs::remove(checkpoint_, no_matter);
        return result;
    }

private:
    void print(const std::string& line) const {
        if (call_.print) call_.print(line);
    }

    Result<void> learn(const train::Recipe& recipe, torch::Device device, LocalResult& result) {
        train::Recipe of_source = source_recipe(recipe, call_.plan);
        if (call_.plan.method == Method::FedKdStudent) {
            StudentStudies wanted{recipe,     call_.teacher_recipe, call_.teachers,
                                  call_.work, call_.most_studies,   call_.cache_bytes,
                                  device,     call_.stop,           call_.print};
            Result<StudentFolder> students = label_studies(wanted);
            if (!students) return std::move(students).error().in("asking the teachers");
            of_source.data.studies = students->folder;
            of_source.data.holdout = 0;  // those held out are not in it
            result.unlabelled = students->without_people;
        }
        Result<StudySource> source = StudySource::open(of_source, StudySource::Part::Training);
        if (!source) return std::move(source).error();
        for (const std::string& remark : source->remarks()) print(remark);
        count_labels(*source, recipe, call_.plan, result);
        const bool some =
            std::any_of(result.labelled.begin(), result.labelled.end(), [](auto& e) { return e.second > 0; });
        if (!some) return reject_error("no study has a label to learn from");
        print(std::to_string(source->size()) + " studies of " + std::to_string(result.patients) +
              " patients to learn from");
        RoundTraining training;
        training.recipe = recipe;
        training.heads = call_.plan.heads;
        training.pulled = call_.pulled;
        training.checkpoint = checkpoint_;
        training.steps = call_.plan.steps;
        training.learning_rate = call_.plan.learning_rate;
        training.proximal_mu = call_.plan.proximal_mu;
        training.seed = call_.plan.seed;
        training.device = device;
        training.stop = call_.stop;
        training.enough = call_.enough;
        training.on_step = [&](const train::StepReport& step) {
            if (step.step % 20 == 0 || step.step == call_.plan.steps)
                print("step " + std::to_string(step.step) + " of " + std::to_string(call_.plan.steps) + ", loss " +
                      std::to_string(step.loss));
        };
        Result<RoundTrained> trained = train_round(training, *source);
        if (!trained) return std::move(trained).error();
        result.steps = trained->steps;
        result.loss = trained->loss;
        return save_weights(*trained->network, trained_, {{"steps", std::to_string(trained->steps)}});
    }

    const LocalRound& call_;
    Memory memory_;
    fs::path checkpoint_, trained_;
};

}  // namespace

Result<Method> method_of(const std::string& word) {
    for (const Method method : {Method::FedAvg, Method::FedKdTeacher, Method::FedKdStudent}) {
        if (word == to_string(method)) return method;
    }
    return config_error("method: expected fedavg, fedkd_teacher or fedkd_student, found '" + word + "'");
}

std::string to_string(Method method) {
    switch (method) {
        case Method::FedAvg: return "fedavg";
        case Method::FedKdTeacher: return "fedkd_teacher";
        case Method::FedKdStudent: return "fedkd_student";
    }
    return "fedavg";
}

Result<LocalResult> run_local_round(const LocalRound& round) {
    try {
        return Round(round).run();
    } catch (const std::bad_alloc&) {
        return retry_error("the local round: memory is full");
    } catch (const std::exception& e) {
        return bug_error(std::string("the local round: ") + e.what());
    }
}

}  // namespace cardionode::fed
