export type { CallOptions, Channel, HistoryOptions, SendOptions } from './channel.js';
export { ChatClient, type InboxInfo } from './client.js';
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
export type { ChatOptions, TokenReason, WebSocketConstructor, WebSocketLike } from './options.js';
export type { OutboxStorage, Outgoing, SendEvent, StoredOutbox, WaitOptions } from './outbox.js';
export type {
  Changed,
  ClientErrorCode,
  Envelope,
  ErrorCode,
  History,
  Joined,
  Overview,
  OverviewConversation,
  OverviewRoom,
  Position,
  Presence,
  PrivateRef,
  Re,
  Reaction,
  Reactions,
  Read,
  Reading,
  Receipt,
  Removed,
  ServerErrorCode,
  StateChanged,
  User,
} from './protocol.js';
export type { JoinedRoom, JoinOptions, Room, RoomState, SetStateOptions } from './room.js';
export type { Users } from './users.js';
