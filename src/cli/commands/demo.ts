import type { CommandModule } from '../command.js';
export const demoCommand: CommandModule = () => {};
