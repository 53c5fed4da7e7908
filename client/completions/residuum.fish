# Completion of residuum for fish: commands, options, states, files, and the ids of jobs as the server lists them.

set -l commands submit plan ls show watch cancel retry rm log graph report weights export predictions verify receipt epochs devices datasets dataset presets version help

function __residuum_jobs
    residuum ls --limit 200 --quiet 2>/dev/null | tail -n +2 | string replace -r '^(\S+)\s+(\S+)\s.*$' '$1\t$2'
end

function __residuum_devices
    residuum devices --quiet 2>/dev/null | tail -n +2 | string match -r '^\S+'
end

complete -c residuum -f
complete -c residuum -s s -l server -x -d "the server's address"
complete -c residuum -s j -l json -d "print JSON"
complete -c residuum -s q -l quiet -d "no messages and no progress"
complete -c residuum -s h -l help -d "print help"
complete -c residuum -s V -l version -d "print the client's version"

complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a submit -d "queue a job"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a plan -d "tell whether a job fits into a GPU's memory"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a ls -d "list jobs"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a show -d "print a job"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a watch -d "follow a job to its end"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a cancel -d "cancel a job"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a retry -d "queue a failed or cancelled job again"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a rm -d "delete an ended job"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a log -d "print the end of the job's log"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a graph -d "print the job's network"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a report -d "print precision, recall and F1 of every class"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a weights -d "list the weights a job keeps, or save those of an epoch"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a export -d "save the whole network as an ONNX file"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a predictions -d "print what the network says of the test images"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a verify -d "run a job again and compare the weights"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a receipt -d "print what decides the job's weights"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a epochs -d "print the finished epochs"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a devices -d "list what the server can train on"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a datasets -d "list the data sets"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a dataset -d "import, show or delete a data set"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a presets -d "list the model presets"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a version -d "print the versions of client and server"
complete -c residuum -n "not __fish_seen_subcommand_from $commands" -a help -d "print help"

complete -c residuum -n "__fish_seen_subcommand_from submit plan" -F
complete -c residuum -n "__fish_seen_subcommand_from dataset" -a "add ls show sheet rm" -F
complete -c residuum -n "__fish_seen_subcommand_from dataset" -l name -x -d "its name"
complete -c residuum -n "__fish_seen_subcommand_from dataset" -l wait -d "until the import has ended"
complete -c residuum -n "__fish_seen_subcommand_from dataset" -l size -x -d "side, or height and width"
complete -c residuum -n "__fish_seen_subcommand_from dataset" -l fit -x -a "crop pad stretch" -d "of other shapes"
complete -c residuum -n "__fish_seen_subcommand_from dataset" -l channels -x -a "1 3" -d "grey or colour"
complete -c residuum -n "__fish_seen_subcommand_from dataset" -l test-fraction -x -d "for the test, where there is none"
complete -c residuum -n "__fish_seen_subcommand_from dataset" -l seed -x -d "of that choice"
complete -c residuum -n "__fish_seen_subcommand_from dataset" -l skip-damaged -d "leave damaged images out"
complete -c residuum -n "__fish_seen_subcommand_from dataset" -s o -l output -r -d "save the sheet to this file"
complete -c residuum -n "__fish_seen_subcommand_from plan" -l gpu -x -a "a100 b200 h100 r3090 r4090 r5090 t4 (__residuum_devices)" -d "on this GPU"
complete -c residuum -n "__fish_seen_subcommand_from devices" -l resume -x -a "(__residuum_devices)" -d "give jobs to a drained device again"
complete -c residuum -n "__fish_seen_subcommand_from submit" -s w -l watch -d "follow the job until it ends"
complete -c residuum -n "__fish_seen_subcommand_from submit" -s n -l dry-run -d "only check the job"
complete -c residuum -n "__fish_seen_subcommand_from submit" -l name -x -d "name the job"
complete -c residuum -n "__fish_seen_subcommand_from ls" -l state -x -a "queued starting running succeeded failed cancelled"
complete -c residuum -n "__fish_seen_subcommand_from ls" -l limit -x -d "at most so many jobs"
complete -c residuum -n "__fish_seen_subcommand_from graph" -l dot -d "print Graphviz DOT"
complete -c residuum -n "__fish_seen_subcommand_from graph" -l layers -d "print JSON to be edited"
complete -c residuum -n "__fish_seen_subcommand_from report" -l epoch -x -d "of this epoch"
complete -c residuum -n "__fish_seen_subcommand_from report" -l confused -x -d "so many confused classes and pairs"
complete -c residuum -n "__fish_seen_subcommand_from weights export" -a "last best"
complete -c residuum -n "__fish_seen_subcommand_from weights export predictions" -s o -l output -r -d "save to this file"
complete -c residuum -n "__fish_seen_subcommand_from export" -l onnx -d "as ONNX"
complete -c residuum -n "__fish_seen_subcommand_from export" -l normalize -d "pad and normalize in the network"
complete -c residuum -n "__fish_seen_subcommand_from predictions" -l limit -x -d "at most so many images"
complete -c residuum -n "__fish_seen_subcommand_from predictions" -l one-hot -d "print one-hot vectors"
complete -c residuum -n "__fish_seen_subcommand_from show watch cancel retry rm log graph report weights export predictions verify receipt epochs" -a "(__residuum_jobs)"
complete -c residuum -n "__fish_seen_subcommand_from help" -a "$commands"
