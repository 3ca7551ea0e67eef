export { type CallOptions, ChatClient, type InboxInfo } from './client.js';
export type { ConnectionState, DisconnectReason } from './connection.js';
export { ChatError } from './error.js';
export type {
  BuiltinEvents,
  CallData,
  CallReply,
  ChatCalls,
  ChatEvents,
  ChatQuestions,
  EventData,
  EventType,
  Listener,
  Unsubscribe,
} from './events.js';
export { newId } from './id.js';
export type { ChatOptions, StorageLike, TokenReason, WebSocketConstructor, WebSocketLike } from './options.js';
export type { Outgoing, SendEvent } from './outbox.js';
export type {
  ClientErrorCode,
  Envelope,
  ErrorCode,
  History,
  Joined,
  Position,
  Presence,
  Receipt,
  Removed,
  ServerErrorCode,
  User,
} from './protocol.js';
export type { JoinedRoom, JoinOptions, Room, RoomState, SendOptions } from './room.js';
export type { Users } from './users.js';
