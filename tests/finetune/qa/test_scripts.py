"""Questions in any script: a model that has learned the answers scores 100, and spells them right.

Nothing is trained: an oracle gives the outputs of a model that is sure of the labelled tokens.
"""

import json
import unicodedata

import pytest

from electra_tf2.text.normalization import UNCASED, Casing, normalize
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from finetune.definitions import QADefinition
from finetune.qa.tasks import CustomQATask
from tests.finetune.qa.qa_samples import config, outputs, question, squad

CASED = Casing(lower_case=False)
ACCENTS = Casing(strip_accents=False)


def nth(passage, answer, number=0):
    """A passage, an answer, and where it stands for the n-th time."""
    start = -1
    for _ in range(number + 1):
        start = passage.index(answer, start + 1)
    return passage, answer, start


ZH = "小明在1998年搬到上海。2003年他回到北京。2003年他又到上海，在上海大学教书，2010年离开上海。"
KO = "민수는 서울에서 태어나 부산으로 이사했다. 그는 은행에서 일했다."
DECOMPOSED_KO = unicodedata.normalize("NFD", KO)
PASSAGES = {
    "the last of several places": nth(ZH, "上海", 3),
    "the second of two years": nth(ZH, "2003年", 1),
    "digits within a Chinese sentence": nth(ZH, "2010"),
    "Korean without its particle": nth(KO, "서울"),
    "decomposed Korean": nth(DECOMPOSED_KO, unicodedata.normalize("NFD", "부산")),
    "kana that differ in a mark": nth("秋はがきとかきがおいしい。", "かき"),
    "kana that differ in a mark, the other": nth("秋はかきとがきがおいしい。", "がき"),
    "Thai with a mark at its end": nth("เขาอยู่ที่กรุงเทพฯและเรียนวันจันทร์ที่โรงเรียน", "วันจันทร์"),
    "Khmer": nth("គាត់រស់នៅភ្នំពេញនិងធ្វើការនៅសៀមរាប", "ភ្នំពេញ"),
    "Hindi": nth("वह दिल्ली में पैदा हुआ और मुंबई में रहता है।", "दिल्ली"),
    "Arabic with its article": nth("وُلِد في القاهرة، ثم سكن بغداد.", "قاهرة"),
    "French numbers": nth("La ville compte 12\u00a0500 habitants (en 2010).", "12\u00a0500"),
    "within French quotation marks": nth(
        "Sa devise est «\u00a0Toujours droit\u00a0».", "Toujours droit"
    ),
    "beside an ideographic space": nth("\u3000李白\u3000杜甫は詩人。", "杜甫"),
    "across an ideographic space": nth("詩人は\u3000李白\u3000杜甫。", "李白\u3000杜甫"),
    "a zero-width space at the end": nth(ZH + "\u200b", "上海大学"),
    "a byte order mark before": nth("\ufeff" + ZH, "北京"),
    "a soft hyphen in it": nth("他回到北\u00ad京工作。", "北\u00ad京"),
    "zero-width spaces between Thai words": nth("เขา\u200bอยู่\u200bกรุงเทพ\u200bนาน", "กรุงเทพ"),
    "an emoji before": nth("小明搬到上海❤️👨‍👩。他很高兴。", "高兴"),
    "an emoji as the answer": nth("他说❤️就是爱。", "❤️"),
    "a decomposed accent": nth("Il va au cafe\u0301, puis dort.", "cafe\u0301"),
    "a word that grows": nth("O İstanbul'da doğdu.", "İstanbul"),
    "Turkish capitals": nth("İZMİR'DE DİYARBAKIR'IN IĞDIR'I İLE", "IĞDIR"),
    "Azerbaijani, decomposed": nth("Bakı, I\u0307sti\u0307su və Şəki", "I\u0307sti\u0307su"),
    "Cyrillic": nth("Он жил в г. Йошкар-Ола (Россия).", "Йошкар-Ола"),
    "ideographs that BERT doesn't know": nth("他姓𬹼，住在𰻞街。", "𰻞街"),
}


def character_tokenizer(text, casing, without=""):
    """A tokenizer whose pieces are the characters of a text."""
    chars = sorted(set("".join(normalize(text, casing))) - set(without))
    pieces = [*SPECIAL_TOKENS, *chars, *(f"##{char}" for char in chars)]
    return make_tokenizer(Vocabulary(tuple(pieces)), casing, implementation="reference")


def learned(folder, content, tokenizer, **settings):
    """The scores and the answers of a model that has learned a file."""
    for split in ("train", "dev"):
        (folder / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    settings = {"max_seq_length": 256, **settings}
    task = CustomQATask(config(folder, **settings), "t", tokenizer, QADefinition())
    scorer = task.get_scorer("dev")
    for row in task.featurize(task.get_examples("train"), is_training=True):
        first, last = row["start_positions"], row["end_positions"]
        scorer.update(outputs(row["eid"], [(int(first), int(last), -0.1)]))
    return dict(scorer.get_results()), scorer.answers()


PERFECT = {"exact_match": 100.0, "f1": 100.0}


@pytest.mark.parametrize("casing", [UNCASED, CASED, ACCENTS], ids=["uncased", "cased", "accents"])
@pytest.mark.parametrize("name", PASSAGES)
def test_what_was_learned_is_answered(tmp_path, name, casing):
    passage, answer, start = PASSAGES[name]
    asked = "谁？"
    content = squad((passage, [question("q", asked, [(answer, start)])]))
    tokenizer = character_tokenizer(passage + asked, casing)
    assert learned(tmp_path, content, tokenizer) == (PERFECT, {"q": answer})


def test_an_unknown_character_within_an_answer(tmp_path):
    passage, answer, start = nth("我们参观了北京龘学。", "北京龘学")
    content = squad((passage, [question("q", "谁？", [(answer, start)])]))
    tokenizer = character_tokenizer(passage + "谁？", UNCASED, without="龘")
    assert tokenizer.tokenize(answer)[2] == "[UNK]"
    assert learned(tmp_path, content, tokenizer) == (PERFECT, {"q": answer})


@pytest.mark.parametrize("passage_form, answer_form", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("counted_in", ["passage", "answer"])
@pytest.mark.parametrize("casing", [UNCASED, CASED], ids=["uncased", "cased"])
def test_passage_and_answer_may_be_composed_differently(
    tmp_path, passage_form, answer_form, counted_in, casing
):
    text, answer, _ = nth(KO + " Pâté à Séoul.", "은행")
    passage = unicodedata.normalize(passage_form, text)
    answer = unicodedata.normalize(answer_form, answer)
    form = passage_form if counted_in == "passage" else answer_form
    counted = unicodedata.normalize(form, text)
    start = counted.index(unicodedata.normalize(form, answer))
    content = squad((passage, [question("q", "누구?", [(answer, start)])]))
    scores, answers = learned(tmp_path, content, character_tokenizer(passage + "누구?", casing))
    assert scores == PERFECT
    assert answers == {"q": unicodedata.normalize(passage_form, answer)}


def partly_right(folder, passage, gold, predicted, **settings):
    """The scores of a model that answers something else."""
    tokenizer = character_tokenizer(passage + "谁？", CASED)
    content = squad((passage, [question("q", "谁？", [(gold, passage.index(gold))])]))
    (folder / "dev.json").write_text(json.dumps(content), encoding="utf-8")
    wrong = squad((passage, [question("q", "谁？", [(predicted, passage.index(predicted))])]))
    (folder / "train.json").write_text(json.dumps(wrong), encoding="utf-8")
    values = config(folder, max_seq_length=256, **settings)
    task = CustomQATask(values, "t", tokenizer, QADefinition())
    scorer = task.get_scorer("dev")
    (row,) = task.featurize(task.get_examples("train"), is_training=True)
    scorer.update(outputs(0, [(int(row["start_positions"]), int(row["end_positions"]), -0.1)]))
    return dict(scorer.get_results())


@pytest.mark.parametrize(
    "gold, predicted, units, exact, f1",
    [
        ("在上海大学教书", "上海大学", "auto", 0, 100 * 8 / 11),
        ("在上海大学教书", "上海大学", "words", 0, 0),
        ("2010年", "2010", "auto", 0, 100 * 2 / 3),
        ("2010年", "2010", "characters", 0, 100 * 8 / 9),
        # Punctuation that ASCII doesn't have.
        ("离开上海", "离开上海。", "auto", 100, 100),
        ("离开上海", "离开上海。", "words", 0, 0),
    ],
)
def test_chinese_is_scored_by_characters(tmp_path, capsys, gold, predicted, units, exact, f1):
    scores = partly_right(tmp_path, ZH, gold, predicted, qa_score_units=units)
    assert scores == {"exact_match": exact, "f1": pytest.approx(f1)}
    assert ("qa_score_units" in capsys.readouterr().err) == (units == "auto")


def test_a_chinese_name_does_not_make_an_english_passage_chinese(tmp_path, capsys):
    passage = "The Yuan dynasty (元朝) was founded by Kublai Khan in 1271."
    scores = partly_right(tmp_path, passage, "元朝", "Yuan dynasty (元朝)")
    assert scores == {"exact_match": 0, "f1": pytest.approx(50)}
    assert capsys.readouterr().err == ""
