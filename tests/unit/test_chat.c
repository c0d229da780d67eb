// SPDX-License-Identifier: MIT
// Chat templates: how they are recognised, and what they render, against texts written out from the models'
// documentation.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/vocab_make.h"

static const struct fm_chat_message talk[] = {
    {"system", "Be brief."}, {"user", "Hello."}, {"assistant", "Good day."}, {"user", "Who are you?"}};

static void expect(enum fm_chat_template t, const struct fm_chat_message *messages, size_t count, bool prompt,
                   const char *want)
{
    char *text = NULL;
    assert_int_equal(fm_chat_render(t, messages, count, prompt, &text), FM_OK);
    assert_string_equal(text, want);
    fm_text_free(text);
}

static void test_chatml(void **state)
{
    (void)state;
    expect(FM_CHAT_CHATML, talk, 4, true,
           "<|im_start|>system\nBe brief.<|im_end|>\n"
           "<|im_start|>user\nHello.<|im_end|>\n"
           "<|im_start|>assistant\nGood day.<|im_end|>\n"
           "<|im_start|>user\nWho are you?<|im_end|>\n"
           "<|im_start|>assistant\n");
    expect(FM_CHAT_CHATML, talk + 1, 1, false, "<|im_start|>user\nHello.<|im_end|>\n");
}

static void test_llama3(void **state)
{
    (void)state;
    expect(FM_CHAT_LLAMA3, talk, 4, true,
           "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
           "<|start_header_id|>user<|end_header_id|>\n\nHello.<|eot_id|>"
           "<|start_header_id|>assistant<|end_header_id|>\n\nGood day.<|eot_id|>"
           "<|start_header_id|>user<|end_header_id|>\n\nWho are you?<|eot_id|>"
           "<|start_header_id|>assistant<|end_header_id|>\n\n");
    const struct fm_chat_message padded = {"user", " \n Hi there \t\n"};
    expect(FM_CHAT_LLAMA3, &padded, 1, false, "<|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|>");
}

static void test_llama2(void **state)
{
    (void)state;
    expect(FM_CHAT_LLAMA2, talk, 4, true,
           "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello. [/INST] Good day. </s>"
           "<s>[INST] Who are you? [/INST]");
    expect(FM_CHAT_LLAMA2, talk + 1, 3, true, "[INST] Hello. [/INST] Good day. </s><s>[INST] Who are you? [/INST]");
}

static void test_mistral(void **state)
{
    (void)state;
    expect(FM_CHAT_MISTRAL, talk + 1, 3, true, "[INST] Hello. [/INST] Good day.</s>[INST] Who are you? [/INST]");
    expect(FM_CHAT_MISTRAL, talk, 2, true, "[INST] Be brief.\n\nHello. [/INST]");
}

static void test_zephyr(void **state)
{
    (void)state;
    expect(FM_CHAT_ZEPHYR, talk, 4, true,
           "<|system|>\nBe brief.</s>\n<|user|>\nHello.</s>\n<|assistant|>\nGood day.</s>\n<|user|>\nWho are you?</s>\n"
           "<|assistant|>\n");
}

static void test_plain(void **state)
{
    (void)state;
    expect(FM_CHAT_PLAIN, talk, 4, true,
           "Be brief.\n\nUser: Hello.\nAssistant: Good day.\nUser: Who are you?\nAssistant:");
}

static void test_edges(void **state)
{
    (void)state;
    char *text = NULL;
    for (int t = 0; t < FM_CHAT_COUNT; t++)
        expect((enum fm_chat_template)t, NULL, 0, false, "");
    const struct fm_chat_message blank[] = {{"user", " "}, {"assistant", ""}};
    expect(FM_CHAT_LLAMA2, blank, 2, false, "[INST]  [/INST]  </s>");
    const struct fm_chat_message strange = {"wizard", "Abracadabra"};
    assert_int_equal(fm_chat_render(FM_CHAT_CHATML, &strange, 1, true, &text), FM_ARG);
    assert_string_equal(fm_error_message(), "chat message 0: role 'wizard', expected system, user or assistant");
    const struct fm_chat_message empty = {"user", NULL};
    assert_int_equal(fm_chat_render(FM_CHAT_CHATML, &empty, 1, true, &text), FM_ARG);
    assert_int_equal(fm_chat_render(FM_CHAT_COUNT, talk, 1, true, &text), FM_ARG);
    assert_null(text);
}

static void test_names(void **state)
{
    (void)state;
    for (int t = 0; t < FM_CHAT_COUNT; t++) {
        enum fm_chat_template back = FM_CHAT_COUNT;
        assert_true(fm_chat_template_from_name(fm_chat_template_name((enum fm_chat_template)t), &back));
        assert_int_equal(back, t);
    }
    enum fm_chat_template back;
    assert_false(fm_chat_template_from_name("chatml2", &back));
    assert_string_equal(fm_chat_template_name(FM_CHAT_COUNT), "unknown");
}

static void expect_detected(const char *jinja, enum fm_chat_template want, bool want_known, const char *want_system)
{
    struct gguf_writer w = {0};
    struct fm_tokenizer *tok = NULL;
    bool known = !want_known;
    vocab_make_bpe(&w, "gpt-2", NULL, 0, NULL, 0);
    if (jinja != NULL)
        gguf_write_string(&w, "tokenizer.chat_template", jinja);
    assert_int_equal(vocab_open(&w, &tok), FM_OK);
    assert_int_equal(fm_tokenizer_chat_template(tok, &known), want);
    assert_int_equal(known, want_known);
    if (want_system == NULL)
        assert_null(fm_tokenizer_chat_system(tok));
    else
        assert_string_equal(fm_tokenizer_chat_system(tok), want_system);
    fm_tokenizer_destroy(&tok);
    gguf_write_finish(&w);
}

static void test_detection(void **state)
{
    (void)state;
    expect_detected(NULL, FM_CHAT_PLAIN, true, NULL);
    expect_detected("", FM_CHAT_PLAIN, false, NULL);
    expect_detected("{{ messages }}", FM_CHAT_PLAIN, false, NULL);
    expect_detected("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
                    "'<|im_end|>' + '\\n'}}{% endfor %}",
                    FM_CHAT_CHATML, true, NULL);
    expect_detected(
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + "
        "'<|eot_id|>' }}",
        FM_CHAT_LLAMA3, true, NULL);
    expect_detected(
        "{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' %}{{ bos_token + '[INST] ' + content + "
        "' [/INST]' }}",
        FM_CHAT_LLAMA2, true, NULL);
    expect_detected("{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token }}",
                    FM_CHAT_MISTRAL, true, NULL);
    expect_detected("{{ '<|user|>\\n' + message['content'] + eos_token }}{{ '<|assistant|>\\n' }}", FM_CHAT_ZEPHYR,
                    true, NULL);
    // Relatives that end their messages otherwise.
    expect_detected(
        "{{ '<|user|>\\n' + message['content'] + '<|end|>\\n' }}{{ '<|assistant|>\\n' if x else eos_token }}",
        FM_CHAT_PLAIN, false, NULL);
    expect_detected("{{ '[SYSTEM_PROMPT]' + s + '[/SYSTEM_PROMPT]' }}{{ '[INST]' + m + '[/INST]' }}", FM_CHAT_PLAIN,
                    false, NULL);
}

static void test_default_system(void **state)
{
    (void)state;
    // The shape of Qwen2.5's, whose tools branch builds the text piece by piece.
    expect_detected(
        "{%- if tools %}{{- '<|im_start|>system\\n' }}{%- else %}{%- if messages[0]['role'] == 'system' %}"
        "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{%- else %}"
        "{{- '<|im_start|>system\\nYou are a lamp. You are helpful.<|im_end|>\\n' }}{%- endif %}{%- endif %}",
        FM_CHAT_CHATML, true, "You are a lamp. You are helpful.");
    expect_detected("<|im_start|>system\nReal line break<|im_end|>", FM_CHAT_CHATML, true, "Real line break");
    expect_detected("<|im_start|>system\\n<|im_end|>", FM_CHAT_CHATML, true, NULL);
    expect_detected("<|im_end|><|im_start|>system\\nnever closed", FM_CHAT_CHATML, true, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chatml),         cmocka_unit_test(test_llama3), cmocka_unit_test(test_llama2),
        cmocka_unit_test(test_mistral),        cmocka_unit_test(test_zephyr), cmocka_unit_test(test_plain),
        cmocka_unit_test(test_edges),          cmocka_unit_test(test_names),  cmocka_unit_test(test_detection),
        cmocka_unit_test(test_default_system),
    };
    return cmocka_run_group_tests_name("chat", tests, NULL, NULL);
}
