"""Holds an audit message against the schema of DICOM PS3.15 A.5.1, written down here a second time, by other code.

usage: check_message.py FILE   each line one syslog message; prints what is wrong, exit code 1
"""
import re
import sys
import xml.etree.ElementTree as ElementTree

HEADER = re.compile(r"<(8[45])>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]+) ([!-~]+) (\d+) DICOM\+RFC3881 - \ufeff(.*)$")
CODED = {"csd-code", "codeSystemName", "displayName", "originalText"}
# element: (required attributes, optional attributes, children in order with "how often")
SCHEMA = {
    "AuditMessage": (set(), set(), [("EventIdentification", "1"), ("ActiveParticipant", "+"),
                                    ("AuditSourceIdentification", "1"), ("ParticipantObjectIdentification", "*")]),
    "EventIdentification": ({"EventDateTime", "EventOutcomeIndicator"}, {"EventActionCode"},
                            [("EventID", "1"), ("EventTypeCode", "*"), ("EventOutcomeDescription", "?")]),
    "ActiveParticipant": ({"UserID", "UserIsRequestor"}, {"AlternativeUserID", "UserName", "NetworkAccessPointID",
                                                          "NetworkAccessPointTypeCode"}, [("RoleIDCode", "*")]),
    "AuditSourceIdentification": ({"AuditSourceID"}, {"AuditEnterpriseSiteID"}, [("AuditSourceTypeCode", "*")]),
    "AuditSourceTypeCode": ({"csd-code"}, CODED, []),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID"},
        {"ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole", "ParticipantObjectDataLifeCycle",
         "ParticipantObjectSensitivity"},
        [("ParticipantObjectIDTypeCode", "1"), ("ParticipantObjectName", "1"), ("ParticipantObjectDetail", "*"),
         ("ParticipantObjectDescription", "*")]),
    "ParticipantObjectDescription": (set(), set(), [("SOPClass", "*")]),
    "SOPClass": ({"NumberOfInstances"}, {"UID"}, []),
    "ParticipantObjectName": (set(), set(), []),
    "EventOutcomeDescription": (set(), set(), []),
}
for name in ("EventID", "EventTypeCode", "RoleIDCode", "ParticipantObjectIDTypeCode"):
    SCHEMA[name] = ({"csd-code", "codeSystemName", "originalText"}, {"displayName"}, [])
VALUES = {
    "EventActionCode": r"[CRUDE]", "EventOutcomeIndicator": r"0|4|8|12", "UserIsRequestor": r"true|false",
    "NetworkAccessPointTypeCode": r"[1-5]", "ParticipantObjectTypeCode": r"[1-4]",
    "ParticipantObjectTypeCodeRole": r"\d+", "NumberOfInstances": r"\d+", "UserID": r".+",
    "EventDateTime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
}


def check(element, problems):
    if element.tag not in SCHEMA:
        problems.append(f"{element.tag}: not in the schema here")
        return
    required, optional, children = SCHEMA[element.tag]
    for attribute in required - set(element.attrib):
        problems.append(f"{element.tag}: no {attribute}")
    for attribute, value in element.attrib.items():
        if attribute not in required | optional:
            problems.append(f"{element.tag}: {attribute} does not belong here")
        if not re.fullmatch(VALUES.get(attribute, r".*"), value):
            problems.append(f"{element.tag}: {attribute}={value}")
    names = "".join(f"<{child.tag}>" for child in element)
    pattern = "".join(f"(<{name}>){'' if often == '1' else often}" for name, often in children)
    if not re.fullmatch(pattern, names):
        problems.append(f"{element.tag}: children {names}")
    for child in element:
        check(child, problems)


def main():
    problems = []
    lines = open(sys.argv[1], encoding="utf-8", newline="\n").read().splitlines()
    for line in lines:
        match = HEADER.match(line)
        if not match:
            problems.append(f"header: {line[:80]}")
            continue
        check(ElementTree.fromstring(match.group(6).encode()), problems)
    print("\n".join(problems))
    return 1 if problems or not lines else 0


if __name__ == "__main__":
    sys.exit(main())
