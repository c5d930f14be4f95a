import type { CommandModule } from '../command.js';
export const copyCommand: CommandModule = () => {};
