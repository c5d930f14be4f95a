import type { CommandModule } from '../command.js';
export const testCommand: CommandModule = () => {};
