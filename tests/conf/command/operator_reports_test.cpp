#include "conf/command/operator_reports.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "scp/queue/queue.h"
#include "tests/support/authority.h"
#include "tests/support/fake_clock.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using nlohmann::json;
using std::chrono::minutes;
using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

namespace {

template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    return *std::move(result);
}
void must(Result<void> result) {
    if (!result) throw std::runtime_error(result.error().message);
}

constexpr auto kResult = R"({
  "model": "heart-swin12-2mm 1.0", "series": "CT series 2: contrast, 0.6 mm", "warnings": ["calcium is blurred"],
  "seconds": {"read": 1.25, "infer": 30.5},
  "landmarks": [
    {"name": "hinge_left", "title": "Left coronary cusp nadir", "found": true, "lps_mm": [-12.34, 5.0, 1020.06],
     "confidence": 0.874, "reason": ""},
    {"name": "ostium_right", "title": "Right coronary ostium", "found": false, "lps_mm": null, "confidence": 0.12,
     "reason": "confidence 0.12 is below 0.30"}],
  "measurements": [
    {"name": "annulus_area_mm2", "title": "Annulus area", "value": 512.25, "uncertainty": 20.5,
     "unit": "mm2", "reason": ""},
    {"name": "right_height_mm", "title": "Right ostium height", "value": null, "unit": "mm",
     "reason": "the right ostium was not found"}]})";

class OperatorReports : public testing::Test {
protected:
    OperatorReports() {
        options.config = folder / "node.yaml";
        write_settings("destinations:\n  - {name: pacs1, ae_title: PACS1, host: 127.0.0.1, port: 104}\n");
    }

    void write_settings(const std::string& more) {
        std::ofstream(options.config) << "node:\n  database: " << (folder / "queue.db").string()
                                      << "\n  spool: " << folder.path().string() << "\n"
                                      << more;
    }
    Queue open() { return must(Queue::open(folder / "queue.db", clock)); }
    std::string add_ready(Queue& queue, const std::string& study) {
        std::vector<ReceivedInstance> instances(2);
        for (int i = 0; i < 2; ++i) {
            ReceivedInstance& r = instances[static_cast<std::size_t>(i)];
            r.study_instance_uid = "1.2.777." + study;
            r.series_instance_uid = r.study_instance_uid + ".1";
            r.sop_instance_uid = r.series_instance_uid + "." + std::to_string(i);
            r.sop_class_uid = "1.2.840.10008.5.1.4.1.1.2";
            r.sha256 = "sha" + r.sop_instance_uid;
            r.file = study + "/" + std::to_string(i) + ".dcm";
            r.modality = "CT";
            r.bytes = 1 << 20;
            r.calling_ae_title = "CT1";
        }
        const std::string key = must(queue.add_instances(instances)).at(0).study_key;
        must(queue.force_complete(key));
        return key;
    }
    std::string text_of(Result<Report> report) { return must(std::move(report)).text; }

    test::TemporaryFolder folder;
    test::FakeClock clock;
    OperatorOptions options;
};

}  // namespace

TEST_F(OperatorReports, CheckSaysOkOrNamesEveryProblemAndEndsWithTwo) {
    EXPECT_EQ(check_report(options).text, options.config.string() + ": ok\n");
    EXPECT_EQ(check_report(options).exit_code, 0);
    write_settings("scp:\n  port: eleven\n  prot: 1\n");
    const Report bad = check_report(options);
    EXPECT_EQ(bad.exit_code, 2);
    EXPECT_THAT(bad.text, HasSubstr(options.config.string() + ":5: scp.port: expected a whole number"));
    EXPECT_THAT(bad.text, HasSubstr(options.config.string() + ":6: scp.prot: unknown key"));
    options.json = true;
    const Report listed = check_report(options);
    EXPECT_EQ(listed.exit_code, 2);
    const json parsed = json::parse(listed.text);
    EXPECT_EQ(parsed["ok"], false);
    EXPECT_EQ(parsed["problems"].size(), 2U);
    options.config = "/nonexistent/node.yaml";
    EXPECT_EQ(check_report(options).exit_code, 2);
}

TEST_F(OperatorReports, CheckOpensTheTlsFilesToo) {
    test::Authority ca(folder.path(), "ca");
    const auto node = ca.issue("node"), other = ca.issue("other"), old = ca.issue("old", {"x", "", -9, -2});
    const auto tls = [&](const std::filesystem::path& certificate, const std::filesystem::path& key) {
        return "{port: 2762, certificate: " + certificate.string() + ", key: " + key.string() +
               ", ca: " + ca.certificate().string() + "}\n";
    };
    write_settings("scp:\n  tls: " + tls(node.certificate, node.key));
    EXPECT_EQ(check_report(options).exit_code, 0) << check_report(options).text;
    write_settings(
        "scp:\n  tls: " + tls(node.certificate, other.key) +
        "destinations:\n  - {name: pacs1, ae_title: P, host: h, port: 1, tls: {ca: /gone.pem, certificate: " +
        old.certificate.string() + ", key: " + old.key.string() + "}}\n");
    const Report bad = check_report(options);
    EXPECT_EQ(bad.exit_code, 2);
    EXPECT_THAT(bad.text, HasSubstr("scp.tls.key: " + other.key.string() + ": does not belong to the certificate"));
    EXPECT_THAT(bad.text, HasSubstr("destinations (pacs1).tls.certificate: " + old.certificate.string() + ": expired"));
    EXPECT_THAT(bad.text, HasSubstr("/gone.pem"));
    options.json = true;
    EXPECT_EQ(json::parse(check_report(options).text)["problems"].size(), 3U);
}

TEST_F(OperatorReports, ADatabaseThatIsNotThereYetIsNamedAndNotMade) {
    for (const auto& report : {status_report(options, clock), studies_report(options, clock),
                               show_report(options, "S00AM", clock), retry_report(options, {"S00AM"}, clock)}) {
        ASSERT_FALSE(report);
        EXPECT_EQ(report.error().kind, ErrorKind::Config);
        EXPECT_EQ(report.error().message,
                  "no database at " + (folder / "queue.db").string() + ": has cardionode-scp been started?");
    }
    EXPECT_FALSE(std::filesystem::exists(folder / "queue.db"));
}

TEST_F(OperatorReports, WrongSettingsAreNamedByEveryCommand) {
    write_settings("nonsense: 1\n");
    const auto report = status_report(options, clock);
    ASSERT_FALSE(report);
    EXPECT_THAT(report.error().message, HasSubstr("node.yaml:4: nonsense: unknown key"));
}

TEST_F(OperatorReports, AnEmptyQueueIsHelpful) {
    open();
    EXPECT_THAT(text_of(studies_report(options, clock)),
                HasSubstr("No study has arrived yet. The node listens as CARDIONODE on 127.0.0.1 port 11112."));
    const std::string status = text_of(status_report(options, clock));
    EXPECT_THAT(status, HasSubstr("receiving         0\n"));
    EXPECT_THAT(status, HasSubstr("pacs1              0     0          0  never      -         -"));
    EXPECT_EQ(text_of(retry_report(options, {}, clock)), "No study was set aside.\n");
    write_settings("");
    EXPECT_THAT(text_of(status_report(options, clock)), HasSubstr("No destination is set"));
}

TEST_F(OperatorReports, StatusAndStudiesTellStateAgeErrorAndNextTry) {
    Queue queue = open();
    const std::string waiting = add_ready(queue, "1");
    must(queue.fail_study(must(queue.claim_study("w", minutes(2))).value(), retry_error("GPU memory full"),
                          {.first = minutes(10)}));
    const std::string aside = add_ready(queue, "2");
    must(queue.fail_study(must(queue.claim_study("w", minutes(2))).value(), reject_error("12 slices, 40 are needed"),
                          {}));
    clock.advance(minutes(5));
    const std::string studies = text_of(studies_report(options, clock));
    EXPECT_THAT(studies,
                HasSubstr(waiting + "  ready      5 min  CT1     1       1       2  -                 1  in "));
    EXPECT_THAT(studies, HasSubstr(" min  GPU memory full\n"));
    EXPECT_THAT(studies, HasSubstr(aside + "  set aside  5 min  CT1 "));
    EXPECT_THAT(studies, HasSubstr("12 slices, 40 are needed\n"));
    const std::string status = text_of(status_report(options, clock));
    EXPECT_THAT(status, HasSubstr("set aside         1  need you: see `cardionode studies`"));
    EXPECT_THAT(status, HasSubstr("4 images, 4.0 MiB"));
    EXPECT_THAT(status, HasSubstr("the oldest unfinished study came 5 min ago"));

    options.json = true;
    const json listed = json::parse(text_of(studies_report(options, clock)));
    ASSERT_EQ(listed.size(), 2U);
    EXPECT_EQ(listed[1]["study"], waiting);
    EXPECT_EQ(listed[1]["last_error"], "GPU memory full");
    EXPECT_EQ(listed[0]["state"], "set_aside");
    const json counted = json::parse(text_of(status_report(options, clock)));
    EXPECT_EQ(counted["studies"]["set_aside"], 1);
    EXPECT_EQ(counted["instances"], 4);
}

TEST_F(OperatorReports, ShowTellsResultOutputsAndEvents) {
    Queue queue = open();
    const std::string key = add_ready(queue, "1");
    const std::vector<OutputFile> outputs = {{"SEG", "1.2.3", "2.25.777.1", "a.dcm"},
                                             {"SR", "1.2.4", "2.25.777.2", "b.dcm"}};
    const std::string destination = "pacs1";
    must(queue.finish_study(must(queue.claim_study("w", minutes(2))).value(), {"1 of 2 landmarks", kResult}, outputs,
                            {&destination, 1}));
    must(queue.output_sent(must(queue.claim_output("s", minutes(2))).value(), ""));
    must(queue.output_failed(must(queue.claim_output("s", minutes(2))).value(), retry_error("connection refused"),
                             {.first = minutes(10)}));
    clock.advance(minutes(2));
    const std::string shown = text_of(show_report(options, key, clock));
    for (const char* part :
         {"State        sending\n", "From         CT1\n", "Images       2 (2.0 MiB)\n", "Outputs sent 1 of 2\n",
          "Last error   SR to pacs1: connection refused\n", "Outcome      1 of 2 landmarks\n",
          "Model        heart-swin12-2mm 1.0\n", "Series read  CT series 2: contrast, 0.6 mm\n",
          "Warning      calcium is blurred\n", "Seconds      read 1.2, infer 30.5\n",
          "Left coronary cusp nadir  yes    -12.3   5.0  1020.1        0.87\n",
          "Right coronary ostium     no         -     -       -        0.12  confidence 0.12 is below 0.30\n",
          "Annulus area         512.2  20.5  mm2\n",
          "Right ostium height      -     -  mm    the right ostium was not found\n",
          "2023-11-14 22:13:20  receiving    first instance from CT1\n"})
        EXPECT_THAT(shown, HasSubstr(part));
    EXPECT_THAT(shown, HasSubstr("SEG       1  pacs1        sent"));
    EXPECT_THAT(shown, HasSubstr("SR        1  pacs1        waiting"));
    EXPECT_THAT(shown, Not(HasSubstr("777"))) << "a UID is shown unasked";

    OperatorOptions other = options;
    other.json = true;
    const std::string text = text_of(show_report(other, key, clock));
    EXPECT_THAT(text, Not(HasSubstr("777")));
    const json parsed = json::parse(text);
    EXPECT_EQ(parsed["result"]["landmarks"][0]["lps_mm"][1], 5.0);
    EXPECT_EQ(parsed["outputs_list"][1]["state"], "waiting");
    other.uids = true;
    EXPECT_THAT(text_of(show_report(other, key, clock)),
                AllOf(HasSubstr("1.2.777.1\""), HasSubstr("1.2.777.1.1.0"), HasSubstr("2.25.777.2")));
    options.uids = true;
    EXPECT_THAT(text_of(show_report(options, key, clock)),
                AllOf(HasSubstr("Study UID    1.2.777.1\n"), HasSubstr("1.2.777.1.1.0"), HasSubstr("2.25.777.2")));
}

TEST_F(OperatorReports, ShowSaysALongOrSharedReasonOnce) {
    Queue queue = open();
    const std::string key = add_ready(queue, "1");
    const std::string reason = "Left coronary cusp nadir not found: the model marked no voxel";
    json result = {{"landmarks", json::array()}, {"measurements", json::array()}};
    result["landmarks"].push_back({{"title", "Left nadir"}, {"found", false}, {"reason", "the model marked no voxel"}});
    for (const char* title : {"Annulus area", "Annulus perimeter", "Annulus minimum diameter"}) {
        result["measurements"].push_back({{"title", title}, {"value", nullptr}, {"unit", "mm"}, {"reason", reason}});
    }
    result["measurements"].push_back(
        {{"title", "Sinus"}, {"value", nullptr}, {"unit", "mm"}, {"reason", "the scan ends"}});
    must(queue.finish_study(must(queue.claim_study("w", minutes(2))).value(), {"", result.dump()}, {}, {}));
    const std::string shown = text_of(show_report(options, key, clock));
    EXPECT_THAT(shown, HasSubstr("\n[1] " + reason + "\n"));
    EXPECT_EQ(shown.find(reason), shown.rfind(reason)) << shown;
    EXPECT_THAT(shown, HasSubstr("see [1]"));
    EXPECT_THAT(shown, HasSubstr("the scan ends"));
    EXPECT_THAT(shown, Not(HasSubstr("[2]"))) << "short reasons of one line stay in their line";
}

TEST_F(OperatorReports, ShowNamesTheFilesOfConflicts) {
    Queue queue = open();
    const std::string key = add_ready(queue, "1");
    ReceivedInstance other;
    other.study_instance_uid = "1.2.777.1";
    other.series_instance_uid = "1.2.777.1.1";
    other.sop_instance_uid = "1.2.777.1.1.0";
    other.sha256 = "another";
    other.file = "1/beside.dcm";
    must(queue.add_instances({&other, 1}));
    const std::string shown = text_of(show_report(options, key, clock));
    EXPECT_THAT(shown, HasSubstr("1 more not used, see below"));
    EXPECT_THAT(shown, HasSubstr("1/beside.dcm"));
    EXPECT_THAT(shown, Not(HasSubstr("1/0.dcm"))) << "the images in use are listed with --uids only";
}

TEST_F(OperatorReports, ShowSurvivesAResultOfAnotherVersion) {
    Queue queue = open();
    for (const char* result :
         {"not json", "[1]", R"({"landmarks": 7, "measurements": [1, {"value": "x"}], "seconds": [], "warnings": {}})",
          R"({"landmarks": [{"name": "hinge", "found": "yes", "lps_mm": ["a"], "confidence": null}]})"}) {
        const std::string key = add_ready(queue, std::to_string(std::hash<std::string>{}(result)));
        must(queue.finish_study(must(queue.claim_study("w", minutes(2))).value(), {"", result}, {}, {}));
        EXPECT_THAT(text_of(show_report(options, key, clock)), HasSubstr("State        done"));
        OperatorOptions as_json = options;
        as_json.json = true;
        EXPECT_EQ(json::parse(text_of(show_report(as_json, key, clock)))["state"], "done");
    }
}

TEST_F(OperatorReports, AnUnknownOrMistypedKeyIsSaid) {
    open();
    EXPECT_THAT(show_report(options, "S00AN", clock).error().message, HasSubstr("\"S00AN\" is not the key of a study"));
    EXPECT_THAT(show_report(options, "s00am", clock).error().message, HasSubstr("there is no study S00AM"));
    const Report retried = must(retry_report(options, {"S00AM"}, clock));
    EXPECT_EQ(retried.exit_code, 1);
    EXPECT_THAT(retried.text, HasSubstr("S00AM: trying study S00AM again: there is no such study in the queue"));
}

TEST_F(OperatorReports, RetryPutsOneOrAllBack) {
    Queue queue = open();
    std::vector<std::string> keys;
    for (const char* study : {"1", "2"}) {
        keys.push_back(add_ready(queue, study));
        must(queue.fail_study(must(queue.claim_study("w", minutes(2))).value(), reject_error("no contrast"), {}));
    }
    EXPECT_EQ(text_of(retry_report(options, {keys[0]}, clock)), keys[0] + ": ready\n");
    EXPECT_EQ(must(queue.study(keys[1]))->state, StudyState::SetAside);
    EXPECT_EQ(text_of(retry_report(options, {}, clock)), keys[1] + ": ready\n");
    EXPECT_EQ(must(queue.study(keys[1]))->state, StudyState::Ready);
    must(queue.claim_study("w", minutes(2)));
    options.json = true;
    const Report both = must(retry_report(options, keys, clock));
    EXPECT_EQ(both.exit_code, 1) << "one of them is being worked on";
    const json parsed = json::parse(both.text);
    EXPECT_NE(parsed[0]["ok"], parsed[1]["ok"]);
}

TEST_F(OperatorReports, AnOutputThatIsSentButNotCommittedIsToldApart) {
    Queue queue = open();
    const std::string key = add_ready(queue, "8");
    const std::vector<OutputFile> outputs = {{"SEG", "1.2.840.10008.5.1.4.1.1.66.4", "9.8.1", "seg.dcm"}};
    must(queue.finish_study(*must(queue.claim_study("w", minutes(2))), {"all found", "{}"}, outputs,
                            std::vector<std::string>{"pacs1"}));
    must(queue.output_sent(*must(queue.claim_output("s", minutes(2), "pacs1")), "", /*commit=*/true));
    EXPECT_THAT(text_of(studies_report(options, clock)), HasSubstr("1 of 1, 1 not committed yet"));
    EXPECT_THAT(text_of(show_report(options, key, clock)), HasSubstr("sent, not committed yet"));
    const auto ask = must(queue.ask_commitment("pacs1", "PACS1", "1.9.1", minutes(10), {}));
    ASSERT_TRUE(ask);
    must(queue.commitment_not_asked(*ask, retry_error("pacs1: no connection: Connection refused")));
    EXPECT_THAT(text_of(studies_report(options, clock)), HasSubstr("Connection refused"));
    EXPECT_THAT(text_of(status_report(options, clock)), HasSubstr("Connection refused"));
    clock.advance(minutes(10));
    ASSERT_TRUE(must(queue.ask_commitment("pacs1", "PACS1", "1.9.2", minutes(10), {})));
    must(queue.commitment_answered("PACS1", {"1.9.2", {{outputs[0].sop_class_uid, outputs[0].sop_instance_uid}}, {}}));
    EXPECT_THAT(text_of(show_report(options, key, clock)),
                AllOf(HasSubstr("committed"), Not(HasSubstr("not committed yet"))));
    options.json = true;
    EXPECT_EQ(json::parse(text_of(show_report(options, key, clock)))["outputs_list"][0]["commitment"], "committed");
    EXPECT_EQ(json::parse(text_of(status_report(options, clock)))["outputs"]["uncommitted"], 0);
}
