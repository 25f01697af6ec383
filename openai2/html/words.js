// The texts of the page, in English and Chinese. "one|many" is chosen by {n}; the other placeholders are filled in by t().

const WORDS = {
  branches: ["Branches", "分支"], events: ["Events", "事件"], find: ["Search", "搜索"], close: ["Close", "关闭"],
  compare: ["Two branches side by side", "并排比较两个分支"], theme: ["Light or dark", "浅色或深色"],
  help: ["Help", "帮助"], menu: ["Branches and events", "分支与事件"], keys: ["Keyboard shortcuts", "键盘快捷键"], with: ["compared with", "对比"],
  first: ["First event", "第一个事件"], previous: ["Previous event", "上一事件"], next: ["Next event", "下一事件"], last: ["Last event", "最后一个事件"],
  timeline: ["Timeline", "时间线"], counter: ["{n} of {all}", "第 {n} / {all} 个"], link: ["Link to this event", "此事件的链接"],
  theme_auto: ["Colours follow the system", "颜色跟随系统"], theme_light: ["Light colours", "浅色"], theme_dark: ["Dark colours", "深色"],
  event_count: ["{n} event|{n} events", "{n} 个事件"],
  forked_at: ["from {name} @{version}", "来自 {name} @{version}"], archived: ["archived", "已归档"],
  user: ["User", "用户"], assistant: ["Assistant", "助手"], system: ["System", "系统"], developer: ["Developer", "开发者"],
  tool: ["Tool", "工具"], function: ["Function", "函数"],
  added: ["added", "新增"], removed: ["removed", "移出"], pinned: ["pinned", "已固定"], now_pinned: ["just pinned", "刚固定"],
  now_unpinned: ["just unpinned", "刚取消固定"], stopped: ["stopped early", "提前停止"], waiting: ["waiting for the answer", "等待回答"],
  aside: ["on record only: there was no place for it behind its question", "仅留在记录中：问题之后已没有它的位置"],
  unanswered: ["not answered", "未获回答"], came: ["received before the failure", "失败前收到的部分"], remark: ["not sent to the model yet", "尚未发送给模型"],
  redacted: ["permanently removed from the file", "内容已从文件中永久删除"], redacted_why: ["permanently removed: {reason}", "已永久删除：{reason}"],
  tokens: ["{asked} + {came} tokens", "{asked} + {came} 个 token"], seconds: ["{n} s", "{n} 秒"], key: ["key {key}", "密钥 {key}"],
  tries: ["after {n} failed attempt|after {n} failed attempts", "此前失败 {n} 次"], thinking: ["Reasoning of the model", "模型的推理过程"],
  choice: ["Alternative answer ({n})", "备选回答（{n}）"], more_fields: ["Other fields", "其他字段"],
  show_all: ["Show all ({size})", "显示全部（{size}）"],
  image: ["External image, not loaded: {url}", "外部图片，未加载：{url}"], part: ["[{type}]", "[{type}]"], no_picture: ["image cannot be shown", "图片无法显示"],
  empty: ["The conversation has no messages at this event.", "对话在此事件时没有消息。"], nothing: ["This page contains no conversation.", "此页不包含对话。"],
  raw: ["details", "详情"], nowhere: ["This page has no event {place}.", "此页没有事件 {place}。"],
  searching: ["{percent} % searched …", "已搜索 {percent} % …"], found: ["{n} result|{n} results", "找到 {n} 处"],
  found_most: ["First {n} results", "前 {n} 处"], not_found: ["Nothing found", "没有找到"],
  same: ["same", "相同"], changed: ["changed", "不同"], only_here: ["only here", "仅此分支"],
  alone: ["There is no other branch to compare with.", "没有可比较的其他分支。"], before_questions: ["Before the first question", "第一个问题之前"],
  by_caller: ["by the caller", "由调用者"], by_model: ["answered by {model}", "由 {model} 回答"], by_limit: ["by the message limit", "由消息上限"], by_server: ["by the server", "由服务器"], by_recovery: ["recovered after a crash", "崩溃后恢复"],
  t_created: ["Conversation created", "创建对话"], t_created_named: ["Conversation {name} created", "创建对话 {name}"],
  t_forked: ["Forked from {name} @{version}", "自 {name} @{version} 分叉"], t_forked_why: ["Forked from {name} @{version} ({reason})", "自 {name} @{version} 分叉（{reason}）"],
  t_pinned: ["Pinned {n} message|Pinned {n} messages", "固定了 {n} 条消息"], t_unpinned: ["Unpinned {n} message|Unpinned {n} messages", "取消固定 {n} 条消息"],
  t_rolled: ["Rolled back {n} round|Rolled back {n} rounds", "回退了 {n} 轮"], t_removed: ["Removed {n} message|Removed {n} messages", "移出 {n} 条消息"],
  t_retry: ["Removed the old answer for a retry", "为重试移出旧回答"],
  t_truncated: ["Removed {n} message for the limit of {limit}|Removed {n} messages for the limit of {limit}", "按上限 {limit} 条移出 {n} 条消息"],
  t_restored: ["Restored version {version}", "恢复到版本 {version}"], t_undone: ["Undo: back to version {version}", "撤销：回到版本 {version}"], t_redone: ["Redo: forward to version {version}", "重做：前往版本 {version}"],
  t_asked: ["Asked {model}", "询问 {model}"], t_asked_limit: ["Asked {model}, with at most {limit} messages", "询问 {model}，至多 {limit} 条消息"], the_model: ["the model", "模型"],
  t_stopped: ["Stopped before any output", "在收到内容前停止"], t_kept: ["Stopped; the partial answer was kept", "已停止，保留已收到的部分"], t_recovered: ["The interrupted answer was kept", "保留了中断的回答"],
  t_failed: ["Failed: {error}", "失败：{error}"], t_configured: ["Conversation settings: {settings}", "对话设置：{settings}"], limit: ["limit {n}", "上限 {n}"], no_limit: ["no limit", "不限数量"],
  t_renamed: ["Renamed to {name}", "命名为 {name}"], t_unnamed: ["Name removed", "取消了名称"], t_archived: ["Archived", "已归档"], t_unarchived: ["Unarchived", "取消归档"],
  t_deleted: ["All content permanently removed", "全部内容已永久删除"],
  t_redacted: ["Content of version {version} permanently removed", "版本 {version} 的内容已永久删除"],
  t_role: ["Role {name}: {text}", "角色 {name}：{text}"], t_role_gone: ["Role {name} removed", "角色 {name} 已移除"], t_remark: ["{name} to {heard}: {text}", "{name} 对 {heard}：{text}"],
  k_arrows: ["previous, next event (with Shift: ten)", "上一、下一事件（加 Shift：十个）"], k_ends: ["first, last event", "第一个、最后一个事件"], k_find: ["search all messages", "搜索全部消息"],
  k_branches: ["previous, next branch", "上一、下一分支"], k_compare: ["two branches side by side", "并排比较两个分支"], k_theme: ["light, dark, system", "浅色、深色、跟随系统"], k_help: ["this help", "本帮助"], k_close: ["close", "关闭"],
  about: ["Every address names an event: copy it to come back here. Printing prints the whole conversation.", "每个地址都指向一个事件，可复制以便返回。打印时会打印整个对话。"],
};
const CHINESE = /^zh\b/i.test(navigator.language || "");
const numberFormat = new Intl.NumberFormat();

/** Return the text of a key of WORDS, its placeholders filled in from *values*. */
function t(key, values = {}) {
  let text = (WORDS[key] || [key, key])[CHINESE ? 1 : 0];
  if (text.includes("|")) text = text.split("|")[values.n === 1 ? 0 : 1];
  return text.replace(/\{(\w+)\}/g, (all, name) => {
    if (!(name in values)) return all;
    return name === "n" && typeof values.n === "number" ? numberFormat.format(values.n) : String(values[name]);
  });
}

const dayFormat = new Intl.DateTimeFormat(CHINESE ? "zh" : undefined, {year: "numeric", month: "short", day: "numeric"});
const timeFormat = new Intl.DateTimeFormat(CHINESE ? "zh" : undefined, {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23"});

function formatTime(time) {
  const date = new Date(time);
  return isNaN(date) ? visible(time) : `${dayFormat.format(date)} ${timeFormat.format(date)}`;
}

function formatBytes(size) {
  if (size < 1024) return `${size} B`;
  return size < 1048576 ? `${(size / 1024).toFixed(0)} kB` : `${(size / 1048576).toFixed(1)} MB`;
}
