# Completion of gateway(1) for fish. The candidates come from the program itself.

function __gateway_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines (command $words[1] complete words $words[2..] "$current" 2>/dev/null)
    switch "$lines[1]"
        case candidates
            if set -q lines[3]
                printf '%s\n' $lines[3..]
            end
        case files folders
            # What stands before the path in the same word belongs to each candidate.
            set -l prefix (string match -r '^[^=]*=' -- "$current")
            for path in (__fish_complete_path (string replace -r '^[^=]*=' '' -- "$current"))
                printf '%s%s\n' "$prefix" $path
            end
    end
end

complete -c gateway -f -a '(__gateway_complete)'
