import type { Command } from 'commander';
import type { Terminal } from './terminal.js';

/** Declares one command: its options, and what runs it. `done` takes the exit status when it is not 0. */
export type CommandModule = (program: Command, terminal: Terminal, done: (code: number) => void) => void;

/** Options that every command has, after its own. */
export function withJson(command: Command): Command {
  return command.option('--json', 'print one JSON value instead of text');
}

/** Reads option values as the type they were parsed to; commander itself does not know. */
export function optionsOf<T>(command: Command): T {
  return command.opts() as T;
}
