#!/bin/bash
# Completion for fovea, read by bash, not run. The first line is for shellcheck.

_fovea() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' options i
  # "--opt=value" arrives as three words.
  if [ "$current" = = ]; then current=''; fi
  if [ "$previous" = = ]; then previous=${COMP_WORDS[COMP_CWORD - 2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      run | validate | map | info | explain) command=${COMP_WORDS[i]}; break ;;
    esac
  done

  COMPREPLY=()
  case $previous in
    --device) mapfile -t COMPREPLY < <(compgen -W 'auto cpu reference cuda' -- "$current"); return ;;
    --dtype) mapfile -t COMPREPLY < <(compgen -W 'f32 f16 bf16' -- "$current"); return ;;
    --layout) mapfile -t COMPREPLY < <(compgen -W 'bhsd bshd' -- "$current"); return ;;
    --causal) mapfile -t COMPREPLY < <(compgen -W 'top-left bottom-right' -- "$current"); return ;;
    --colors) mapfile -t COMPREPLY < <(compgen -W 'head shared root' -- "$current"); return ;;
    --q | --k | --v) _fovea_files npy "$current"; return ;;
    --check) mapfile -t COMPREPLY < <(compgen -W 'all rows= none' -- "$current"); return ;;
    --output)
      if [ "$command" = map ]; then _fovea_files 'png|svg|pdf' "$current"
      else _fovea_files 'safetensors|npy' "$current"; fi
      return ;;
    --threads | --window | --scale | --softcap | --cases | --case | --seed | --filter | --batch | --head) return ;;
  esac

  local problem='--q --k --v --layout --device --threads --dtype --causal --window --scale --softcap'
  case $command in
    '') options='run validate map info explain --help --version' ;;
    run) options="$problem --check --seed --output --json --help" ;;
    explain) options="$problem --schedule --json --help" ;;
    validate) options='--device --cases --seed --case --filter --threads --json --help' ;;
    map) options="$problem --batch --head --all-heads --colors --output --help" ;;
    info) options='--json --help' ;;
  esac
  if [ -z "$command" ] || [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
  else
    case $command in run | map | explain) _fovea_files safetensors "$current" ;; esac
  fi
}

# Folders, and files whose name ends in one of the extensions.
_fovea_files() {
  local found
  while IFS= read -r found; do
    if [ -d "$found" ] || [[ $found =~ \.($1)$ ]]; then COMPREPLY+=("$found"); fi
  done < <(compgen -f -- "$2")
  compopt -o filenames 2>/dev/null  # fails, harmlessly, when a script calls this
}

complete -F _fovea fovea
