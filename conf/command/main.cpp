// The operator's command. Everything is in run_cardionode, so that tests can call it.
#include "conf/command/command.h"

int main(int argc, char** argv) { return cardionode::run_cardionode(argc, argv); }
