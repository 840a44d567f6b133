"""Show things at a terminal. Knows the client's answers, and nothing of commands.

| module          | what it shows                                                                |
| --------------- | ---------------------------------------------------------------------------- |
| `terminal`      | `Output`: results on standard output, notes and errors on standard error     |
| `tables`        | lists of runs, workflows and snapshots                                       |
| `pages`         | one run, one workflow, the words of a question                               |
| `progress`      | the events of a run as lines, and a live line below them                     |
| `questions`     | `Asker`: asks a person for the fields of an answer                           |
| `answer_fields` | the fields of an answer, and what a person may type for each                 |
| `line_reader`   | lines that a person types, read without blocking the loop                    |
| `records`       | the client's answers as JSON objects for scripts                             |
| `schemas`       | a JSON Schema on one line                                                    |
| `styles`        | colours                                                                      |
| `text`          | values, times and spans as text that is safe to show                         |
"""
